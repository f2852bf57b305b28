"""What tests share: real databases, a real server, a client."""
