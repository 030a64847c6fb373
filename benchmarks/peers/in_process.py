"""The bare arm of decode: mlx_lm.stream_generate in a process of its own, asked line by line.

Run as a script; reads {"prompt", "max_tokens"} and answers {"tokens", "seconds"}, the time being
that from the first token to the last.
"""

import json
import sys
import time

import mlx_lm
from mlx_lm.sample_utils import make_sampler


def main() -> None:
    model, tokenizer = mlx_lm.load(sys.argv[1])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        first = last = 0.0
        tokens = []
        stream = mlx_lm.stream_generate(
            model,
            tokenizer,
            order["prompt"],
            max_tokens=order["max_tokens"],
            sampler=make_sampler(0.0),
        )
        for answer in stream:
            last = time.monotonic()
            first = first or last
            tokens.append(answer.token)
        print(json.dumps({"tokens": len(tokens), "seconds": last - first}), flush=True)


if __name__ == "__main__":
    main()
