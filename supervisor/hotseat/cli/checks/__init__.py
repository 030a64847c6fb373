"""`hotseat doctor`: looks at a home, a daemon and a machine, and what it finds."""
