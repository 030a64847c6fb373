"""Time that a test decides, and the times of events."""
