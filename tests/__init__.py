"""The tests of hotseat."""
