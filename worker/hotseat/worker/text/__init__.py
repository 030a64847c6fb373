"""Tokens from messages and text from tokens: templates, calls, reasoning, grammars."""
