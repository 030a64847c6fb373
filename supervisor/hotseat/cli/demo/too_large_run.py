"""`hotseat demo --too-large`: a random model answers whole, then under a limit below its size."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from hotseat.cli.demo.stage import Stage
from hotseat.cli.demo.too_large import TooLarge, limit_for
from hotseat.client import Client
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Done, Progress

NAME: Final = "large"
PROMPT: Final = "Once upon a time, "
TOKENS: Final = 32
KNOWN_S: Final = 60.0
"""The disk's rate is taken from what was read by then, a few seconds after it was."""
POLL_S: Final = 0.2
_SETTINGS: Final = '[seat]\nstandby = "off"\n'


def run_too_large(*, cache: Path, keep: bool, as_json: bool) -> int:
    """0 when every promise held, 1 otherwise; nothing is left unless `keep`."""
    console = Console(stderr=as_json)
    # Weights lie beside the samples: a folder for temporary files may be memory.
    cache.mkdir(parents=True, exist_ok=True)
    weights = Path(tempfile.mkdtemp(prefix="too-large-", dir=cache))
    base = Path(tempfile.mkdtemp(prefix="hsdemo"))
    stage = Stage(base, console)
    try:
        result = _play(stage, weights)
    finally:
        stage.stop()
        if keep:
            console.print(f"home kept at {base}, weights at {weights}")
        else:
            shutil.rmtree(base, ignore_errors=True)
            shutil.rmtree(weights, ignore_errors=True)
    if as_json:
        facts = {**msgspec.to_builtins(result), "broken": result.broken}
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        for line in result.lines:
            console.print(line, highlight=False)
    for line in result.broken:
        console.print(f"[red]promise broken:[/] {line}")
    if not result.broken:
        console.print(f"[green]every promise held[/]: {stage.passed}")
    return 1 if result.broken else 0


def _play(stage: Stage, weights: Path) -> TooLarge:
    stage.make_large(weights)
    stage.settle(_SETTINGS)
    stage.add_model(NAME, str(weights), "")
    client = stage.start()
    plan = client.plan(NAME)
    whole = _answer(stage, client, "whole")
    limit = limit_for(plan)
    stage.settle(f"{_SETTINGS}[memory]\nlimit_bytes = {limit}\n")
    client.reload()
    client.release()
    # What is read for this one tells how fast the disk is; the next one is held to that.
    _answer(stage, client, "too large")
    forecast = _forecast(client)
    again = _answer(stage, client, "too large, again")
    return TooLarge(
        whole_bytes=plan.weights_bytes,
        limit_bytes=limit,
        held=client.status().streamed,
        forecast=forecast,
        measured=_speed(again),
        whole_speed=_speed(whole),
        tokens=len(again.tokens),
        is_same=again.tokens == whole.tokens,
    )


def _answer(stage: Stage, client: Client, what: str) -> Done:
    with (
        stage.screen.live(f"{what} …"),
        client.generate(NAME, prompt=PROMPT, max_tokens=TOKENS, temperature=0.0) as stream,
    ):
        for event in stream.events():
            if isinstance(event, Progress):
                stage.screen.phase(event)
        return stream.result()


def _forecast(client: Client) -> float:
    """Of the plan, once the disk's rate is known. Raises `HotseatError` if it stays unknown."""
    until = time.monotonic() + KNOWN_S
    while time.monotonic() < until:
        if (speed := client.plan(NAME).tokens_per_s) is not None:
            return speed
        time.sleep(POLL_S)
    raise HotseatError("internal", f"no rate of the disk was measured within {KNOWN_S:.0f} s")


def _speed(done: Done) -> float:
    """Tokens a second behind the first one."""
    return (len(done.tokens) - 1) / max(done.timing.decode_s, 1e-6)
