"""HTTP for agents that speak nothing else: an ordinary client of the daemon, a process of its own.

It decides nothing about the seat. `chat` and `messages` are dialects; everything else is shared.
"""
