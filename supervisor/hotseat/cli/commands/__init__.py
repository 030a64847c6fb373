"""The commands: each parses, calls and renders, and imports late."""
