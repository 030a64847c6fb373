"""Figures: bounded labels, classes of memory that add up, no text."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hotseat.gateway.accounts import PRODUCTS, Account, dialect_of, outcome_of, product_of
from hotseat.gateway.callers import OWNER, Caller, Turnstile
from hotseat.gateway.metrics import Metrics, memory_classes
from hotseat.gateway.ollama.views import running
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Done, Event, Timing, Usage
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.views import (
    MemoryView,
    ModelView,
    QueueView,
    StandbyView,
    StatusView,
    WorkerView,
)

SIZES = st.integers(0, 2**40)
DONE = Done(
    model="gemma",
    text="Secret.",
    tokens=(),
    finish_reason="stop",
    usage=Usage(live_tokens=5, disk_tokens=256, computed_tokens=7, completion_tokens=3),
    timing=Timing(queue_s=0.2),
)


class Silent:
    """A telling that is never asked."""


def status(total=100, available=40, **parts):
    return StatusView(
        running=True,
        phase="ready",
        model="gemma",
        epoch=1,
        worker=WorkerView(**parts),
        standby=StandbyView(),
        queue=QueueView(),
        memory=MemoryView(total_bytes=total, available_bytes=available),
        uptime_s=1.0,
        version="1",
    )


def event(name, **facts):
    return Event(seq=1, at=0.0, name=name, facts=facts)


@given(SIZES, SIZES, SIZES | st.none(), SIZES | st.none(), SIZES)
def test_classes_of_memory_add_up_to_the_machine(total, available, held, live, weights):
    view = status(total, min(available, total), footprint_bytes=held, live_kv_bytes=live)
    model = ModelView(name="gemma", state="seated", weights_bytes=weights)
    classes = memory_classes(view, [model])
    assert min(classes.values()) >= 0
    if (held or 0) <= total - min(available, total):
        assert sum(classes.values()) == total


def test_weights_are_what_is_in_memory_of_a_model_that_does_not_fit():
    streamed = StreamedView(mode="layers", held=1, of=4, resident_bytes=30, step_bytes=90)
    view = replace(status(footprint_bytes=50), streamed=streamed)
    model = ModelView(name="gemma", state="seated", weights_bytes=120)
    assert memory_classes(view, [model])["weights"] == 30
    (told,) = running([model], view)["models"]
    assert (told["size"], told["size_vram"]) == (120, 30)
    (whole,) = running([model], status())["models"]
    assert whole["size_vram"] == 120


@given(st.text(max_size=60))
def test_agents_have_few_names(text):
    assert product_of(text) in {*PRODUCTS.values(), "other"}


def test_known_agents_are_told_apart():
    assert product_of("claude-cli/2.1.197 (external, cli)") == "claude-code"
    assert product_of("AsyncOpenAI/Python 3.57.0") == "openai"
    assert dialect_of("/v1/messages/count_tokens") == "messages"
    assert dialect_of("/metrics") == ""


def test_outcomes_follow_the_status():
    found = [outcome_of(status) for status in (200, 202, 400, 404, 429, 431, 499, 500, 503)]
    assert found == [
        *("ok", "ok", "invalid", "invalid", "limited", "invalid", "gone", "failed", "failed")
    ]


def test_account_of_a_stream_tells_its_end_and_not_its_status():
    metrics, turnstile = Metrics(), Turnstile()
    for end in (lambda a: a.ended(DONE), lambda a: a.failed(HotseatError("worker_lost", "")), None):
        bob = Caller(name="bob", max_waiting=1)
        account = Account(metrics, turnstile, bob, "chat", "codex")
        account.wait()
        account.stream(Silent())
        account.spoke()
        account.spoke()
        if end is not None:
            end(account)
        account.close(200)
    page = metrics.render(None, []).decode()
    for outcome, model in (("ok", "gemma"), ("failed", "other"), ("gone", "other")):
        labels = f'agent="codex",dialect="chat",model="{model}",outcome="{outcome}"'
        assert f"hotseat_http_requests_total{{{labels}}} 1.0" in page
    assert 'hotseat_http_ttft_seconds_count{dialect="chat"} 3.0' in page
    assert "hotseat_http_open_streams 0.0" in page
    assert 'hotseat_http_tokens_total{kind="restored_disk",model="gemma"} 256.0' in page
    assert "hotseat_up 0.0" in page and "Secret" not in page


def test_whole_answer_that_nobody_waited_for_frees_its_place():
    metrics, turnstile = Metrics(), Turnstile()
    account = Account(metrics, turnstile, Caller(name="bob", max_waiting=1), "chat", "other")
    account.wait()
    account.close(None)
    turnstile.enter(Caller(name="bob", max_waiting=1))
    assert 'outcome="gone"' in metrics.render(None, []).decode()


def test_events_of_the_daemon_are_counted_by_cause():
    metrics = Metrics()
    for told in (
        event("swap.finished", cause={"agent": "codex_cli_rs/1"}, phases={"load_s": 2.5}),
        event("swap.finished", cause={"agent": "bob:claude-cli/1"}, phases={"load_s": 0.5}),
        event("swap.failed", cause={"client": "cli"}),
        event("worker.exited", asked=True),
        event("worker.exited", asked=False, reason="Text of somebody."),
        event("worker.gpu_lost"),
        event("kv.quarantined", reason="digest"),
        event("request.accepted"),
    ):
        metrics.happened(told)
    page = metrics.render(status(), []).decode()
    for line in (
        'hotseat_swaps_total{agent="codex",outcome="finished"} 1.0',
        'hotseat_swaps_total{agent="claude-code",outcome="finished"} 1.0',
        'hotseat_swaps_total{agent="client",outcome="failed"} 1.0',
        'hotseat_swap_phase_seconds_total{phase="load"} 3.0',
        'hotseat_worker_exits_total{cause="asked"} 1.0',
        'hotseat_worker_exits_total{cause="died"} 1.0',
        'hotseat_worker_exits_total{cause="gpu_lost"} 1.0',
        'hotseat_kv_misses_total{reason="damaged"} 1.0',
    ):
        assert line in page
    assert "somebody" not in page


def test_owner_is_not_bounded():
    turnstile = Turnstile()
    for _ in range(1000):
        turnstile.enter(OWNER)
