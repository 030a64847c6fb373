"""Two streams of mixed lengths for long, with eviction. Tells how far it is each second."""

import threading
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final

from hotseat.cli.selftest.measures.own_stage import OwnStage, ask, seated
from hotseat.cli.selftest.rules.orders import Churn
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.selftest import Fact, Measured, figure, sample_text
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.machine.memory import system_probe

if TYPE_CHECKING:
    from hotseat.client.sync import Client

_SETTINGS: Final = '[kv]\ndisk_budget_bytes = "256MiB"\n'
_STREAMS: Final = 2
_LENGTHS: Final = (20, 400, 60, 900, 150, 1500)
"""Words of the prompts, in turns."""
_TOKENS: Final = (40, 8, 120, 16)
_TURNS: Final = 3
_BEAT_S: Final = 1.0
_SAMPLES: Final = 120
"""Of the machine's memory over the whole time."""


class _Stream:
    """One client's requests, one after the other, until the time is over."""

    def __init__(self, client: "Client", model: str, number: int, until: float) -> None:
        self._client = client
        self._model = model
        self._number = number
        self._until = until
        self.requests = self.tokens = self.failures = 0
        self.last_failure = ""
        self._thread = threading.Thread(target=self._go_on, name=f"churn-{number}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether its last request is not answered yet."""
        return self._thread.is_alive()

    def _go_on(self) -> None:
        for number in count(self._number):
            if time.monotonic() > self._until:
                return
            try:
                self.tokens += self._request(number)
            except HotseatError as error:
                self.failures += 1
                self.last_failure = f"{error.code}: {error.message}"
            self.requests += 1

    def _request(self, number: int) -> int:
        """A few turns of a conversation, then it is left to eviction and another begins."""
        text = sample_text(_LENGTHS[number % len(_LENGTHS)], number)
        session = f"churn-{self._number}-{number // _TURNS}"
        tokens = _TOKENS[number % len(_TOKENS)]
        return len(ask(self._client, self._model, text, tokens, session=session).tokens)


def churn(order: Churn, own: OwnStage, tell: Callable[[Measured], None]) -> Measured:
    """What was done by then, once a second and at the end."""
    client, model = own.client(order.stage, _SETTINGS), order.stage.model
    seated(client, model)
    began = time.monotonic()
    streams = [_Stream(client, model, number, began + order.seconds) for number in range(_STREAMS)]
    for stream in streams:
        stream.start()
    probe = system_probe()
    memory: list[MachineMemory] = []
    while any(stream.is_running for stream in streams):
        time.sleep(min(_BEAT_S, order.seconds))
        passed_s = time.monotonic() - began
        if len(memory) <= passed_s * _SAMPLES / order.seconds:
            memory.append(probe.machine())
        tell(_known(streams, memory, passed_s))
    return _known(streams, memory, time.monotonic() - began)


def _known(streams: list[_Stream], memory: list[MachineMemory], seconds: float) -> Measured:
    wired = [machine.wired_bytes for machine in memory if machine.wired_bytes is not None]
    failure = next((stream.last_failure for stream in streams if stream.last_failure), "")
    return Measured(
        figures=(
            figure("churned_s", seconds),
            figure("requests", sum(stream.requests for stream in streams)),
            figure("tokens", sum(stream.tokens for stream in streams)),
            figure("failed_requests", sum(stream.failures for stream in streams)),
            figure("available_bytes", *(machine.available_bytes for machine in memory)),
            *([figure("wired_bytes", *wired)] if wired else []),
        ),
        facts=(Fact(name="failure", value=failure),) if failure else (),
    )
