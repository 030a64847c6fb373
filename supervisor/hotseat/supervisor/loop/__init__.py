"""Tasks and clocks of the event loop."""
