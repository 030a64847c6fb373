"""Conversations over HTTP: found again by what was said, and gone on with as sessions."""
