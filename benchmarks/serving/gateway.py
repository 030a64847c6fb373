"""What HTTP adds to a request: time to the first token, tokens a second, memory, idle work."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import httpx2
import psutil

from benchmarks.measure import MIB, Arm, Verdict, base_parser, conclude, console, print_arms

TOKENS = 400
IDLE_S = 20.0
OPEN_STREAMS = 200
BUSY = 4
ABORTED = 1000
TARGETS = {"ttft_ms": 10.0, "rate": 0.9, "idle_mib": 64.0, "idle_cpu": 0.002, "open_cpu": 0.05}
GROWTH_MIB, GROWTH_FDS = 16.0, 5.0
ASK = [{"role": "user", "content": "Name a river and say why."}]
ABOUT = f"""\
Client, gateway, supervisor and worker are processes of their own; a tiny real model computes.
  over ZeroMQ, over HTTP: the same greedy request of {TOKENS} tokens by turns; from the call to the
  first chunk with text, and from there to the last.
  idle: memory and CPU of the gateway with nobody there.
  open: {OPEN_STREAMS} streams that wait behind one that computes.
  aborted: {ABORTED} streams that their client cuts after the first event."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the arms, and the verdicts on them."""
    options = base_parser("gateway", __doc__, n=30).parse_args(arguments)
    console.print(ABOUT)
    from tests.support.daemons.gateways import Gateway
    from tests.support.daemons.real_home import tiny_daemon

    models = {"tiny": {"template": "chatml", "seed": 2, "ends": False, "context": 32_768}}
    settings = '[seat]\nstandby = "off"\n[scheduling]\nmax_running = 1\n'
    with ExitStack() as stack:
        daemon = stack.enter_context(tiny_daemon(models, settings))
        client = stack.enter_context(daemon.client())
        gateway = stack.enter_context(Gateway(daemon.home))
        process = psutil.Process(gateway.process.pid)
        http = stack.enter_context(
            httpx2.Client(base_url=gateway.url, headers=gateway.headers, timeout=120)
        )
        verdicts = _by_turns(client, http, options.n)
        verdicts += _idle(process)
        verdicts += _waiting(client, gateway, process)
        verdicts += _aborted(client, http, process)
    return conclude(*verdicts)


def _by_turns(client: Any, http: Any, n: int) -> list[Verdict]:
    direct = (Arm("first token, ZeroMQ", "ms"), Arm("rate, ZeroMQ", "tok/s"))
    web = (Arm("first token, HTTP", "ms"), Arm("rate, HTTP", "tok/s"))
    for number in range(n + 1):
        # Each order half of the time: the second of a pair finds caches warm.
        pairs = [(direct, _zeromq(client)), (web, _http(http))]
        if number % 2:
            pairs = [(web, _http(http)), (direct, _zeromq(client))]
        if number:
            for arms, (first_ms, rate) in pairs:
                arms[0].samples.append(first_ms)
                arms[1].samples.append(rate)
    print_arms(f"{TOKENS} tokens", [direct[0], web[0], direct[1], web[1]])
    added = statistics.median(b - a for a, b in zip(direct[0].samples, web[0].samples, strict=True))
    return [
        Verdict("first token over HTTP later than over ZeroMQ, p50, ms", added, TARGETS["ttft_ms"]),
        Verdict(
            "tokens a second, HTTP over ZeroMQ",
            web[1].median / direct[1].median,
            TARGETS["rate"],
            ">=",
        ),
    ]


def _zeromq(client: Any) -> tuple[float, float]:
    started = time.monotonic()
    stream = client.generate("tiny", messages=ASK, max_tokens=TOKENS, temperature=0.0)
    arrivals = [(time.monotonic(), len(chunk.tokens)) for chunk in stream if chunk.parts]
    stream.result()
    return _figures(started, arrivals[0], arrivals[-1][0])


def _http(http: Any) -> tuple[float, float]:
    started = time.monotonic()
    first: tuple[float, int] | None = None
    last = started
    for delta in _deltas(http):
        last = time.monotonic()
        first = first or (last, len(delta))
    assert first is not None
    return _figures(started, (first[0], 1), last)


def _figures(started: float, first: tuple[float, int], last_at: float) -> tuple[float, float]:
    return (first[0] - started) * 1000, (TOKENS - first[1]) / (last_at - first[0])


def _body(max_tokens: int) -> dict[str, Any]:
    return {
        "model": "tiny",
        "messages": ASK,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
    }


def _deltas(http: Any) -> Iterator[str]:
    with http.stream("POST", "/v1/chat/completions", json=_body(TOKENS)) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                if delta.get("content"):
                    yield delta["content"]


def _idle(process: psutil.Process) -> list[Verdict]:
    size = process.memory_full_info().uss / MIB
    share = _cpu_share(process, IDLE_S)
    console.print(f"idle: {size:.1f} MiB, {share:.2%} of a core")
    return [
        Verdict("memory of an idle gateway, MiB", size, TARGETS["idle_mib"]),
        Verdict("CPU of an idle gateway, share of a core", share, TARGETS["idle_cpu"]),
    ]


def _cpu_share(process: psutil.Process, over_s: float) -> float:
    before = sum(process.cpu_times()[:2])
    time.sleep(over_s)
    return float(sum(process.cpu_times()[:2]) - before) / over_s


def _waiting(client: Any, gateway: Any, process: psutil.Process) -> list[Verdict]:
    """All streams wait behind long answers that somebody else reads."""
    with ExitStack() as stack:
        for _ in range(BUSY):
            busy = client.generate("tiny", prompt="go", max_tokens=30_000, temperature=0.0)
            stack.callback(busy.cancel)
        limits = httpx2.Limits(max_connections=None)
        http = stack.enter_context(
            httpx2.Client(base_url=gateway.url, headers=gateway.headers, timeout=60, limits=limits)
        )
        for _ in range(OPEN_STREAMS):
            stack.enter_context(http.stream("POST", "/v1/chat/completions", json=_body(TOKENS)))
        share = _cpu_share(process, IDLE_S)
    console.print(f"{OPEN_STREAMS} open streams: {share:.2%} of a core")
    return [Verdict("CPU of open streams, share of a core", share, TARGETS["open_cpu"])]


def _aborted(client: Any, http: Any, process: psutil.Process) -> list[Verdict]:
    def cut(count: int) -> None:
        for _ in range(count):
            with http.stream("POST", "/v1/chat/completions", json=_body(TOKENS)) as answer:
                next(answer.iter_lines())
        deadline = time.monotonic() + 30
        while client.status().queue.running or client.status().queue.waiting:
            assert time.monotonic() < deadline, "requests of cut streams stay"
            time.sleep(0.05)

    cut(ABORTED // 10)
    before, files = process.memory_full_info().uss / MIB, process.num_fds()
    cut(ABORTED)
    grown, more = process.memory_full_info().uss / MIB - before, process.num_fds() - files
    console.print(f"{ABORTED} aborted: memory {grown:+.1f} MiB, descriptors {more:+d}")
    return [
        Verdict("memory more after aborted streams, MiB", grown, GROWTH_MIB),
        Verdict("descriptors more after aborted streams", more, GROWTH_FDS),
    ]
