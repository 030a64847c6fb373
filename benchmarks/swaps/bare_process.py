"""The other arm of the swap benchmarks, run as a script: mlx-lm alone, driven by lines on stdin.

Imports everything, says "ready", loads the model named on a line as the library loads it, makes
one token, says how long each took, and ends when stdin does. Knows nothing of hotseat.
"""

import json
import os
import sys
import time
from pathlib import Path

import mlx_lm
from mlx_lm.utils import load_model, load_tokenizer


def serve() -> None:
    say({"state": "ready"})
    for line in sys.stdin:
        order = json.loads(line)
        folder = Path(order["folder"])
        started = time.monotonic()
        # The two halves of mlx_lm.load, in its order, to see what each takes.
        model, config = load_model(folder)
        weights_at = time.monotonic()
        tokenizer = load_tokenizer(folder, eos_token_ids=config.get("eos_token_id"))
        loaded_at = time.monotonic()
        response = next(mlx_lm.stream_generate(model, tokenizer, order["prompt"], max_tokens=1))
        say(
            {
                "state": "token",
                "token": int(response.token),
                "weights_s": weights_at - started,
                "tokenizer_s": loaded_at - weights_at,
                "token_s": time.monotonic() - loaded_at,
            }
        )


def say(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
    os._exit(0)
