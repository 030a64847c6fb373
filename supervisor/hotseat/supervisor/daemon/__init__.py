"""One run of the daemon: assembly, router, start and end, upkeep, recovery, logs."""
