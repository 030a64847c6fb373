"""Chunks of several blocks: the same tokens whatever happened between, and nobody waits for two."""

import random

import pytest
from msgspec.structs import replace
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens, tiny_record
from tests.support.engine.suspend_harness import HELD, Run

from hotseat.protocol.link_orders import Suspend
from hotseat.protocol.link_reports import Emitted, Finished, Prefilled, Suspended

PROMPTS = {512: (600, 560), 1024: (1150, 420)}
"""Of two turns: a chunk, some blocks, a rest; then the rest of a block, some blocks, a rest."""
ANSWER = 12
INTERRUPTIONS = 2


@pytest.fixture(scope="module", params=sorted(PROMPTS))
def chunk(request):
    return request.param


@pytest.fixture(scope="module", params=["llama", "gemma3", "lfm2"])
def record(request, chunk, tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return replace(tiny_record(home, request.param), prefill_chunk=chunk)


@pytest.fixture(scope="module")
def make(record, tmp_path_factory):
    made = []

    def seated():
        made.append(FakeSupervisor(record, tmp_path_factory.mktemp("kv")))
        made[-1].seat()
        return made[-1]

    yield seated
    for supervisor in made:
        supervisor.unseat()


@pytest.fixture(scope="module")
def origin(make, chunk):
    """A supervisor after one turn that nothing disturbed, and how the next one went on."""
    supervisor = make()
    first = ask(supervisor, "s", 0, chunk)
    for name in ("live", "read"):
        supervisor.contexts[name] = supervisor.contexts["s"]
        supervisor.hints[name] = supervisor.hints["s"]
    return supervisor, [first, ask(supervisor, "s", 1, chunk)]


def ask(supervisor, session, number, chunk, disturb=None):
    """One turn; its tokens, context and hint."""
    prompt = prompt_tokens(PROMPTS[chunk][number], number)
    run = Run(supervisor, prompt, session, max_tokens=ANSWER)
    if disturb is not None:
        disturb(run)
    finished = run.finish()
    return run.tokens, finished.context, finished.hint


def prefilled(run) -> int:
    return sum(isinstance(message, Prefilled) for message in run.now.messages)


def interrupt(run, stored, dice) -> None:
    """In one of three ways; a worker that dies may leave any of its new blocks unwritten."""
    supervisor = run.supervisor
    fate = dice.choice(["live", "checkpointed", "killed", "killed"])
    if fate != "killed":
        run.interrupt(fate)
        return
    supervisor.lose()
    new = [block for block in supervisor.blocks if block not in stored]
    for block in new[len(new) - dice.randint(0, len(new)) :]:
        del supervisor.blocks[block]
    supervisor.seat()
    run.resume(None)


def test_turns_interrupted_at_random_points_have_the_tokens_of_undisturbed_ones(
    make, origin, record, chunk
):
    supervisor = make()
    dice = random.Random(f"{record.architecture}{chunk}")

    def disturb(run):
        stored = set(supervisor.blocks)
        for _ in range(INTERRUPTIONS):
            fed, drawn = prefilled(run) + dice.randint(1, 2), len(run.tokens) + dice.randint(1, 3)
            while prefilled(run) < fed and len(run.tokens) < drawn:
                supervisor.advance()
            interrupt(run, stored, dice)

    assert [ask(supervisor, "s", number, chunk, disturb) for number in (0, 1)] == origin[1]


def test_chunk_that_a_death_left_half_written_is_computed_again_as_a_whole(home, supervisors):
    supervisor = supervisors(replace(tiny_record(home, "llama"), prefill_chunk=512))
    run = Run(supervisor, prompt_tokens(1060), max_tokens=2)
    assert run.until_tokens(1)
    supervisor.lose()
    del supervisor.blocks[list(supervisor.blocks)[3]]
    supervisor.seat()
    run.resume(None)
    assert run.started().restored_tokens == 512
    run.finish()
    fed = [message.tokens_done for message in run.now.messages if isinstance(message, Prefilled)]
    assert fed[0] == 1024


def test_forks_have_the_tokens_of_their_origin_in_memory_and_from_disk(origin, chunk):
    supervisor, (_, second) = origin
    tokens = [ask(supervisor, "live", 1, chunk)[0]]
    assert supervisor.checkpoint().failed == ()
    supervisor.seat()
    tokens.append(ask(supervisor, "read", 1, chunk)[0])
    assert tokens == [second[0]] * 2


@pytest.mark.parametrize("record", ["gemma3"], indirect=True)
def test_every_block_of_a_chunk_has_its_window_and_can_be_gone_on_from(origin, record, chunk):
    assert any(layer.kind == "window" for layer in record.layers)
    supervisor, _ = origin
    supervisor.seat()
    for blocks in range(1, chunk // 256):
        shared = prompt_tokens(PROMPTS[chunk][0])[: blocks * 256]
        outcome = supervisor.turn([*shared, *prompt_tokens(60, blocks)], max_tokens=2)
        assert outcome.started.restored_tokens == blocks * 256
        assert outcome.started.miss == ""


@pytest.fixture
def supervisor(home, chunk, supervisors):
    return supervisors(replace(tiny_record(home, "lfm2"), prefill_chunk=chunk))


def test_row_that_decodes_waits_for_one_chunk_at_most(supervisor, chunk):
    running = supervisor.start(prompt_tokens(10), max_tokens=60)
    supervisor.until(Emitted, running)
    sizes = (chunk + 100, chunk // 2, chunk // 2, 40)
    others = [supervisor.start(prompt_tokens(size, size), max_tokens=2) for size in sizes]
    fed: dict = {}
    while not {m.request for m in supervisor.messages if isinstance(m, Finished)} >= set(others):
        seen, before = len(supervisor.messages), sum(fed.values())
        supervisor.engine.step()
        supervisor.pump()
        news = supervisor.messages[seen:]
        fed |= {m.request: m.tokens_done for m in news if isinstance(m, Prefilled)}
        has_token = any(isinstance(m, Emitted) and m.request == running for m in news)
        # The last token of a prompt is fed by the decode step that it joins.
        assert sum(fed.values()) - before <= chunk + len(others)
        assert has_token or sum(fed.values()) == before, "a chunk without a token before it"


def test_suspension_in_the_middle_of_a_prompt_keeps_every_block_that_was_fed(supervisor, chunk):
    run = Run(supervisor, prompt_tokens(chunk + 40, 7), "s", max_tokens=2)
    supervisor.until(Prefilled, run.request)
    supervisor.engine.handle(Suspend(request=run.request, hold_as=HELD))
    supervisor.until(Suspended, run.request)
    assert len(supervisor.blocks) == chunk // 256
    run.resume()
    assert run.started().restored_tokens == chunk
    run.finish()
