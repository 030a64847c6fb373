"""What people do without a seat: a process that loads models with mlx-lm and keeps contexts.

`python -m benchmarks.proof.coresident keep FOLDER...` keeps every model and context in memory.
`one FOLDER...` lets the old model go for the next one, its contexts too, as mlx_lm.server does.
Speaks JSON lines: a request in, its tokens one by one and an end out.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache

STEP_TOKENS = 256


class Models:
    """The loaded ones with their contexts, by name."""

    def __init__(self, folders: list[Path], *, keeps_all: bool) -> None:
        self._folders = {folder.name: folder for folder in folders}
        self._keeps_all = keeps_all
        self._loaded: dict[str, tuple[Any, list[Any]]] = {}

    def seated(self, name: str) -> tuple[Any, list[Any]]:
        """Model and context; both are made when they are not there."""
        if name not in self._loaded:
            if not self._keeps_all:
                self._loaded.clear()
                gc.collect()
                mx.clear_cache()
            model, _ = load(str(self._folders[name]))
            mx.eval(model.parameters())
            self._loaded[name] = (model, make_prompt_cache(model))
        return self._loaded[name]

    def answer(self, name: str, tokens: list[int], max_tokens: int) -> int:
        """Says the tokens of the answer; returns how many of the prompt were held."""
        model, cache = self.seated(name)
        held = cache[0].offset
        made = generate_step(
            mx.array(tokens[held:]),
            model,
            max_tokens=max_tokens,
            prompt_cache=cache,
            prefill_step_size=STEP_TOKENS,
        )
        for token, _ in made:
            say(token=int(token))
        return int(held)


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Answers until its input ends."""
    mode, *folders = arguments
    models = Models([Path(folder) for folder in folders], keeps_all=mode == "keep")
    say(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        held = models.answer(asked["model"], asked["tokens"], asked["max_tokens"])
        say(restored=held)


if __name__ == "__main__":
    main(sys.argv[1:])
