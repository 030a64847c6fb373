"""The worker's end of the link: frames, beats, tokens that share a frame."""
