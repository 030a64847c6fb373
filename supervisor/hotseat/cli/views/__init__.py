"""Views of the protocol as text for people; no calls, no files."""
