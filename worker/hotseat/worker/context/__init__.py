"""Contexts: live ones, and their way to and from files of KV."""
