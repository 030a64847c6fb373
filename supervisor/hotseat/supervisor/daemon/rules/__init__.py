"""What the last run of the daemon left. Pure."""
