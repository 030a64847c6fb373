"""Prefill and decode rates of mlx_lm alone or of the engine, in this process. Judges nothing."""

import time
from pathlib import Path
from typing import Any, Final

import mlx_lm
from mlx_lm.sample_utils import make_sampler
from msgspec.structs import replace

from hotseat.library.selftest.engine_driver import Course, EngineDriver, arrival
from hotseat.library.selftest.kernels import read_record
from hotseat.protocol.selftest import (
    DecodeBare,
    DecodeEngine,
    Figure,
    Measured,
    figure,
    sample_text,
)
from hotseat.worker.text.tokenizer import open_tokenizer

_MS: Final = 1000.0
_WARM_TOKENS: Final = 4


def decode_bare(order: DecodeBare) -> Measured:
    """`mlx_lm.stream_generate`, greedy, the second time."""
    record = read_record(order.model)
    model, tokenizer = mlx_lm.load(record.path, adapter_path=record.adapter or None)[:2]
    prompt = prompt_ids(tokenizer, order.prompt_tokens, 0)

    def run(max_tokens: int) -> Course:
        started = time.perf_counter()
        stream = mlx_lm.stream_generate(
            model, tokenizer, prompt, max_tokens=max_tokens, sampler=make_sampler(0.0)
        )
        return Course(started, tuple(arrival(1) for _ in stream))

    run(_WARM_TOKENS)
    return Measured(figures=_rates("mlx_lm", [run(order.new_tokens)], len(prompt)))


def decode_engine(order: DecodeEngine) -> Measured:
    """The engine, greedy, by number of rows; the second time for each."""
    record = read_record(order.model)
    if order.chunk:
        record = replace(record, prefill_chunk=order.chunk)
    name = f"engine_chunk_{order.chunk}" if order.chunk else "engine"
    tokenizer = open_tokenizer(Path(record.path), record.eos_token_ids)
    tokens = max(order.rows) * (order.prompt_tokens + order.new_tokens + 1)
    driver = EngineDriver(record, Path(order.kv_dir), tokens)
    figures: list[Figure] = []
    for count in order.rows:
        # No two begin alike: rows must not share what was computed.
        prompts = [prompt_ids(tokenizer, order.prompt_tokens, seed) for seed in range(count)]
        driver.run(
            [prompt_ids(tokenizer, order.prompt_tokens, 1000 + seed) for seed in range(count)],
            _WARM_TOKENS,
        )
        courses = driver.run(prompts, order.new_tokens)
        own = name if count == 1 else f"{name}_{count}_rows"
        figures += _rates(own, courses, len(prompts[0]))
    return Measured(figures=tuple(figures))


def prompt_ids(tokenizer: Any, count: int, seed: int) -> list[int]:
    """So many ids of a text that no other seed begins with."""
    ids = list(tokenizer.encode(sample_text(count, seed)))
    return [int(number) for number in ids[:count]]


def _rates(name: str, courses: list[Course], prompt_tokens: int) -> tuple[Figure, ...]:
    """Of all rows together, while all of them decode."""
    began = max((course.arrivals[0] for course in courses), key=lambda one: one.at)
    ended = min((course.arrivals[-1] for course in courses), key=lambda one: one.at)
    made = sum(
        one.tokens for course in courses for one in course.arrivals if began.at < one.at <= ended.at
    )
    prefill_s = began.at - courses[0].started_at
    found = [figure(f"{name}_prefill_tokens_per_s", len(courses) * prompt_tokens / prefill_s)]
    if made:
        decode_s, cpu_s = ended.at - began.at, ended.cpu_s - began.cpu_s
        found.append(figure(f"{name}_decode_tokens_per_s", made / decode_s))
        found.append(figure(f"{name}_cpu_ms_per_token", cpu_s * _MS / made))
    return tuple(found)
