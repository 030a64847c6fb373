"""Daemons in homes of their own, and what their users see."""
