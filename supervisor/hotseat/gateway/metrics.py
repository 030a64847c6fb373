"""Figures of the gateway and its daemon as Prometheus reads them. No text of anybody is in them.

Labels are bounded: dialects, products of a table, registered models, outcomes. The registry is our
own, without figures of the process. Must not know sockets.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hotseat.gateway.accounts import OTHER, product_of
from hotseat.protocol.replies import Done, Event
from hotseat.protocol.views import ModelView, StatusView

_TTFT_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_QUEUE_S: Final = (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_MISSES: Final = {
    "kv.quarantined": "damaged",
    "kv.evicted": "evicted",
    "kv.became_cold": "other_model_files",
    "prefix.diverged": "diverged",
    "session.diverged": "session_diverged",
}
TOPICS: Final = ("swap.", "seat.emptied", "worker.", *_MISSES)
"""What of the daemon's events is counted."""


class Metrics:
    """What was counted since the gateway started."""

    def __init__(self) -> None:
        own = CollectorRegistry(auto_describe=False)
        self._registry = own
        self._requests = Counter(
            "hotseat_http_requests",
            "Requests by how they ended.",
            ("dialect", "agent", "model", "outcome"),
            registry=own,
        )
        self._tokens = Counter(
            "hotseat_http_tokens",
            "Tokens of prompts by where they came from, and tokens of answers.",
            ("model", "kind"),
            registry=own,
        )
        self._ttft = Histogram(
            "hotseat_http_ttft_seconds",
            "From the request to the first output of a stream.",
            ("dialect",),
            buckets=_TTFT_S,
            registry=own,
        )
        self._queue = Histogram(
            "hotseat_http_queue_seconds",
            "What requests waited for the seat or for others.",
            buckets=_QUEUE_S,
            registry=own,
        )
        self._streams = Gauge("hotseat_http_open_streams", "Streams under way.", registry=own)
        self._swaps = Counter(
            "hotseat_swaps", "Swaps by who asked.", ("agent", "outcome"), registry=own
        )
        self._phases = Counter(
            "hotseat_swap_phase_seconds", "Time of swaps by phase.", ("phase",), registry=own
        )
        self._exits = Counter(
            "hotseat_worker_exits", "Workers that ended, by cause.", ("cause",), registry=own
        )
        self._misses = Counter(
            "hotseat_kv_misses", "Stored contexts that were of no use.", ("reason",), registry=own
        )

    def began(self) -> None:
        """A stream is open."""
        self._streams.inc()

    def closed(self) -> None:
        """It is not any more."""
        self._streams.dec()

    def spoke(self, dialect: str, ttft_s: float) -> None:
        """First output of a request."""
        self._ttft.labels(dialect).observe(ttft_s)

    def produced(self, done: Done) -> None:
        """A request that was answered to its end."""
        usage = done.usage
        for kind, tokens in (
            ("restored_live", usage.live_tokens),
            ("restored_disk", usage.disk_tokens),
            ("computed", usage.computed_tokens),
            ("out", usage.completion_tokens),
        ):
            self._tokens.labels(done.model, kind).inc(tokens)
        self._queue.observe(done.timing.queue_s)

    def over(self, dialect: str, agent: str, model: str, outcome: str) -> None:
        """A request is over."""
        self._requests.labels(dialect, agent, model, outcome).inc()

    def happened(self, event: Event) -> None:
        """Something that the daemon told."""
        facts = event.facts
        match event.name:
            case "swap.finished":
                self._swaps.labels(_who(facts), "finished").inc()
                for name, seconds in dict(facts.get("phases") or {}).items():
                    self._phases.labels(str(name).removesuffix("_s")).inc(max(0.0, float(seconds)))
            case "swap.failed":
                self._swaps.labels(_who(facts), "failed").inc()
            case "seat.emptied":
                self._swaps.labels(_who(facts), "released").inc()
            case "worker.exited":
                self._exits.labels("asked" if facts.get("asked") else "died").inc()
            case "worker.gpu_lost" | "worker.stalled":
                self._exits.labels(event.name.removeprefix("worker.")).inc()
            case name if name in _MISSES:
                self._misses.labels(_MISSES[name]).inc()
            case _:
                pass

    def render(self, status: StatusView | None, views: Sequence[ModelView]) -> bytes:
        """The page; `status` is None where no daemon answers."""
        daemon = CollectorRegistry(auto_describe=False)
        daemon.register(_Daemon(status, views))
        return generate_latest(self._registry) + generate_latest(daemon)


class _Daemon(Collector):
    """Figures that are read, not counted."""

    def __init__(self, status: StatusView | None, views: Sequence[ModelView]) -> None:
        self._status = status
        self._views = views

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All of them; only whether there is a daemon where there is none."""
        yield _gauge("hotseat_up", "Whether a daemon answers.", {"": float(bool(self._status))})
        if self._status is None:
            return
        status, queue = self._status, self._status.queue
        seated = {view.name: float(view.name == status.model) for view in self._views}
        yield _gauge("hotseat_seated", "Whether the model holds the seat.", seated, "model")
        states = {
            "running": queue.running,
            "waiting": queue.waiting - queue.suspended,
            "suspended": queue.suspended,
        }
        yield _gauge("hotseat_requests", "Requests of all clients.", states, "state")
        classes = memory_classes(status, self._views)
        yield _gauge("hotseat_memory_bytes", "Memory of the machine by use.", classes, "class")
        kv = {"live": status.worker.live_kv_bytes or 0, "cold": status.memory.kv_disk_bytes}
        yield _gauge("hotseat_kv_bytes", "Contexts in memory and on disk.", kv, "place")
        written = {"": status.bytes_written}
        yield _gauge("hotseat_kv_written_bytes", "Written since the daemon started.", written)
        today = {"": status.bytes_written_today}
        yield _gauge("hotseat_kv_written_today_bytes", "Written since midnight UTC.", today)


def memory_classes(status: StatusView, views: Sequence[ModelView]) -> dict[str, int]:
    """Bytes by use; they add up to the memory of the machine. Pure.

    `runtime` is what the worker holds beside weights and live contexts.
    """
    memory, worker = status.memory, status.worker
    weights = next((v.weights_bytes for v in views if v.name == status.model), 0)
    if status.streamed is not None:
        weights = status.streamed.resident_bytes
    held = worker.footprint_bytes or 0
    live = min(worker.live_kv_bytes or 0, held)
    weights = min(weights, held - live)
    standby = status.standby.footprint_bytes or 0
    used = max(0, memory.total_bytes - memory.available_bytes)
    ours = min(held + standby, used)
    return {
        "weights": weights,
        "live_kv": live,
        "runtime": max(0, ours - standby - weights - live),
        "standby": standby,
        "other": used - ours,
        "available": memory.total_bytes - used,
    }


def _gauge(
    name: str, text: str, values: dict[str, float] | dict[str, int], label: str = ""
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label] if label else [])
    for key, value in values.items():
        family.add_metric([key] if label else [], float(value))
    return family


def _who(facts: dict[str, Any]) -> str:
    """The product behind a cause, or `client` for one that speaks no HTTP."""
    cause = facts.get("cause")
    agent = str(cause.get("agent", "")) if isinstance(cause, dict) else ""
    if not agent:
        return "client"
    product = product_of(agent)
    return product if product != OTHER else product_of(agent.partition(":")[2])
