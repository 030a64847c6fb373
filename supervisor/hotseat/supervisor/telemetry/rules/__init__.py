"""To which class memory counts. Pure."""
