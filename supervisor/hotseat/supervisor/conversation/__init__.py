"""Turns, histories, prompts and forms of answers: what a message means for its session. Pure."""
