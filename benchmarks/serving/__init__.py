"""What the way through the daemon adds."""
