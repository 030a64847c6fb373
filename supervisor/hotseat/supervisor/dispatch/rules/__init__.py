"""Who may have a swap happen. Pure."""
