"""Text as it comes, in a session that is continued by the next run: `python streaming.py MODEL`."""

import sys

from hotseat.client import Client

with Client(name="streaming") as client:
    turn = [{"role": "user", "content": "And three more?"}]
    with client.generate(sys.argv[1], session="rivers", append=turn, max_tokens=40) as stream:
        for text in stream.text():
            print(text, end="", flush=True)
        done = stream.result()
    print(f"\nturn {done.turn}: {done.usage.restored_tokens} tokens restored")
