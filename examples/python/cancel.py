"""Ends a request in the middle; what was computed is kept: `python cancel.py MODEL`."""

import sys

from hotseat.client import Client

with Client(name="cancel") as client:
    turn = [{"role": "user", "content": "Tell a long story."}]
    stream = client.generate(sys.argv[1], session="story", append=turn, max_tokens=4000)
    next(iter(stream))
    stream.cancel()
    done = stream.result()
    print(f"{done.finish_reason} after {done.usage.completion_tokens} tokens, turn {done.turn}")
