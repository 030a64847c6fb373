"""The daemon as a launchd service: its job, `launchctl`, what is left behind."""
