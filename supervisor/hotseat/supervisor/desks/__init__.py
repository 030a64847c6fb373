"""Answers to what clients ask: a desk answers one kind of question."""
