"""The operating system: memory, processes, locks, volumes, sleep."""
