"""One question, one answer: `python plain_chat.py MODEL`."""

import sys

from hotseat.client import Client

with Client(name="plain-chat") as client:
    question = [{"role": "user", "content": "Name three rivers."}]
    done = client.generate(sys.argv[1], messages=question, max_tokens=40).result()
    print(done.text)
    print(f"{done.finish_reason}, {done.usage.completion_tokens} tokens")
