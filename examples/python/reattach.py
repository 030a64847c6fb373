"""A stream that goes on behind a restart of the daemon: `python reattach.py MODEL`.

Restart it meanwhile, in another terminal: `hotseat restart`. The client connects again and asks for
the rest of the same request by itself; a program that ended too would use `attach` with the id.
"""

import sys

from hotseat.client import Client

with Client(name="reattach") as client:
    turn = [{"role": "user", "content": "Count to a thousand."}]
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 400  # noqa: PLR2004
    stream = client.generate(sys.argv[1], session="count", append=turn, max_tokens=tokens)
    for chunk in stream:
        print(f"{chunk.offset_tokens} …", flush=True)
    done = stream.result()
    print(f"{done.finish_reason}: {len(done.tokens)} tokens from {len(client.instances)} daemons")

    again = client.attach(stream.request_id).result()
    print("attached later: " + ("the same tokens" if again.tokens == done.tokens else "others"))
