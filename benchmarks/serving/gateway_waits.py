"""What an agent over HTTP waits: headers and signs of life, a second turn, a seat that is busy."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2

from benchmarks.measure import Arm, Verdict, base_parser, conclude, console, print_arms, ratio

HEADERS_MS, SILENCE_S, TURN_RATIO = 100.0, 10.5, 1.2
"""Silence: 10 s, and what a busy machine takes to say a word."""
STAY_S = 24.0
ASK = [{"role": "user", "content": "Name a river and say why."}]
MODELS = {
    "one": {"template": "chatml", "seed": 2, "ends": False, "context": 32_768},
    "two": {"template": "chatml", "seed": 3, "ends": False, "context": 32_768},
}
DIALECTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": ASK, "max_tokens": 8, "stream": True},
    "/v1/messages": {"messages": ASK, "max_tokens": 8, "stream": True},
    "/v1/responses": {"input": ASK, "max_output_tokens": 8, "stream": True},
    "/api/chat": {"messages": ASK, "options": {"num_predict": 8}},
}
WORDS = 1500
ABOUT = f"""\
Two tiny models, a daemon and its gateway.
  headers, silence: model two is asked for in each dialect while model one works and keeps the seat
    for {STAY_S:g} s: until the headers are there; the longest time without a byte.
  second turn: about {WORDS} tokens before it, all in memory: a ZeroMQ session's append against the
    whole history over HTTP, until the first text.
  batch: four clients ask for model one without end, one asks for model two now and then: its wait
    for the first text beside one stay and one swap."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the arms, and the verdicts on them."""
    options = base_parser("gateway-waits", __doc__, n=10).parse_args(arguments)
    console.print(ABOUT)
    verdicts = [*_busy_seat(), _second_turn(options.n), _beside_batch(min(options.n, 5))]
    return conclude(*verdicts)


@contextmanager
def _home(settings: str) -> Iterator[tuple[Any, Any, Any]]:
    from tests.support.daemons.gateways import Gateway
    from tests.support.daemons.real_home import tiny_daemon

    with ExitStack() as stack:
        daemon = stack.enter_context(tiny_daemon(MODELS, settings))
        client = stack.enter_context(daemon.client())
        gateway = stack.enter_context(Gateway(daemon.home))
        http = httpx2.Client(base_url=gateway.url, headers=gateway.headers, timeout=300)
        yield client, stack.enter_context(http), gateway


def _busy_seat() -> list[Verdict]:
    headers, silence = Arm("until the headers", "ms"), Arm("longest silence")
    settings = f'[seat]\nstandby = "off"\n[scheduling]\nmin_seat_s = {STAY_S}\n'
    with _home(settings) as (client, http, _):
        for path, body in DIALECTS.items():
            client.swap("one")
            busy = client.generate("one", prompt="go", max_tokens=30_000, temperature=0.0)
            next(iter(busy))
            started = time.monotonic()
            gaps = []
            with http.stream("POST", path, json={"model": "two", **body}) as answer:
                headers.samples.append((time.monotonic() - started) * 1000)
                last = time.monotonic()
                for _ in answer.iter_raw():
                    gaps.append(time.monotonic() - last)
                    last = time.monotonic()
            busy.cancel()
            silence.samples.append(max(gaps))
            console.print(f"{path}: waited {last - started:.1f} s, {len(gaps)} pieces")
    print_arms("model two while model one works, each dialect once", [headers, silence])
    return [
        Verdict("headers while the seat is busy, worst, ms", max(headers.samples), HEADERS_MS),
        Verdict("silence while the seat is busy, worst, s", max(silence.samples), SILENCE_S),
    ]


def _second_turn(n: int) -> Verdict:
    direct, web = Arm("append over ZeroMQ", "ms"), Arm("whole history over HTTP", "ms")
    with _home('[seat]\nstandby = "off"\n') as (client, http, _):
        for number in range(n + 1):
            first = [{"role": "user", "content": _words(number)}]
            pairs: list[tuple[Arm, Callable[..., float]]] = [
                (direct, lambda first, number=number: _appended(client, first, f"s{number}")),
                (web, lambda first: _over_http(http, first)),
            ]
            for at, (arm, turn) in enumerate(pairs if number % 2 else reversed(pairs)):
                # Other words for each arm: it must not find what the other computed.
                own = [{**first[0], "content": f"{at} {first[0]['content']}"}]
                took_ms = turn(own)
                if number:
                    arm.samples.append(took_ms)
    print_arms("second turn, until the first text", [direct, web])
    return Verdict("second turn over HTTP over ZeroMQ", ratio(web, direct), TURN_RATIO)


def _appended(client: Any, first: list[dict[str, str]], session: str) -> float:
    client.generate("one", session=session, append=first, max_tokens=8, temperature=0.0).result()
    started = time.monotonic()
    stream = client.generate("one", session=session, append=ASK, max_tokens=8, temperature=0.0)
    next(chunk for chunk in stream if chunk.parts)
    took_ms = (time.monotonic() - started) * 1000
    stream.result()
    return took_ms


def _over_http(http: Any, first: list[dict[str, str]]) -> float:
    body = {"model": "one", "max_tokens": 8, "temperature": 0}
    path = "/v1/chat/completions"
    said = http.post(path, json={**body, "messages": first}).json()["choices"][0]["message"]
    reply = {"role": "assistant", "content": said["content"]}
    messages = [*first, reply, *ASK]
    started = time.monotonic()
    return _first_text(http, path, {**body, "messages": messages}, started) * 1000


def _first_text(http: Any, path: str, body: dict[str, Any], started: float) -> float:
    took_s = 0.0
    with http.stream("POST", path, json={**body, "stream": True}) as answer:
        for line in answer.iter_lines():
            if not took_s and line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                took_s = time.monotonic() - started if delta.get("content") else 0.0
    return took_s


def _beside_batch(n: int) -> Verdict:
    waits, shares = Arm("wait for the first text"), Arm("wait over one stay and one swap", "")
    over = threading.Event()
    path, body = "/v1/chat/completions", {"max_tokens": 200, "temperature": 0}

    def work(gateway: Any, agent: int) -> None:
        with httpx2.Client(base_url=gateway.url, headers=gateway.headers, timeout=300) as http:
            while not over.is_set():
                words = [{"role": "user", "content": f"{agent} {time.monotonic_ns()}"}]
                http.post(path, json={"model": "one", "messages": words, **body})

    with _home('[seat]\nstandby = "on"\n') as (client, http, gateway):
        agents = [threading.Thread(target=work, args=(gateway, agent)) for agent in range(4)]
        for agent in agents:
            agent.start()
        try:
            for _ in range(n):
                _wait_for_seat(client, "one")
                started = time.monotonic()
                asked = {"model": "two", "messages": ASK, "max_tokens": 8, "temperature": 0}
                wait_s = _first_text(http, path, asked, started)
                swap = next(one for one in client.why() if one.target == "two")
                allowed_s = _stay_s(client) + swap.total_s
                waits.samples.append(wait_s)
                shares.samples.append(wait_s / allowed_s)
        finally:
            over.set()
            for agent in agents:
                agent.join()
    print_arms("interactive beside batch", [waits, shares])
    return Verdict("wait beside batch over one stay and one swap", max(shares.samples), 1.0)


def _wait_for_seat(client: Any, model: str) -> None:
    while client.status().model != model:
        time.sleep(0.05)


def _stay_s(client: Any) -> float:
    """The longest stay of the default settings: so many times what a swap costs."""
    costs = [one.total_s for one in client.why()]
    return max(2.0, 8 * max(costs))


def _words(number: int) -> str:
    return " ".join(f"w{number}-{at}" for at in range(WORDS // 5))
