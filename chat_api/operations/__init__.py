"""For operators: health and metrics endpoints, and the commands of `flask`."""
