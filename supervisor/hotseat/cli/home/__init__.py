"""What the command line does with a home itself: daemon, log, token, removal."""
