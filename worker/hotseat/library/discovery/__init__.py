"""Models that are on this machine already, whoever brought them. Reads headers only."""
