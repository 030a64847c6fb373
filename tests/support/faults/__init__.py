"""Operating systems, homes and inputs that fail."""
