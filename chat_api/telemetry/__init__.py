"""What operators read: log lines, metrics and the request log."""
