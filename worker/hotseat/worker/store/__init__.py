"""KV files: their format, writing, reading, scanning; bytes, never arrays."""
