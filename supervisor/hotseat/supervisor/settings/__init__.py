"""What can be set, and where the home is."""
