"""Golden frames: the bytes of every kind of message, so that a change of the wire is seen.

`tests/golden/NAME.bin` holds the four frames of a message, each behind its length as a big-endian
32-bit number; `NAME.json` says the same in words. Clients in other languages decode them too.
Written anew only on purpose: `python tests/unit/protocol/test_golden_frames.py --write`.
"""

import json
import struct
import sys
from pathlib import Path

import msgpack
import msgspec
import pytest

from hotseat.protocol import messages as m
from hotseat.protocol import replies as r
from hotseat.protocol.codec import (
    CLIENT_KINDS,
    decode_client,
    decode_daemon,
    encode_client,
    encode_daemon,
    open_envelope,
)
from hotseat.protocol.ids import RequestId

GOLDEN = Path(__file__).parents[2] / "golden"
OLDER = GOLDEN / "v1"
"""As version 1 wrote them; never written again."""
TOKEN = "0123456789abcdef" * 2

CLIENT = {
    "hello": m.Hello(
        protocol=1, client=m.ClientInfo(name="golden", version="1.0", pid=7), token=TOKEN
    ),
    "hello_anonymous": m.Hello(protocol=1),
    "ping": m.Ping(),
    "reload": m.Reload(),
    "generate": m.Generate(
        model="smol",
        messages=(
            m.Message(role="system", content="Be brief."),
            m.Message(role="user", content=(m.Part(type="text", text="Grüße"),), name="anna"),
            m.Message(
                role="assistant",
                reasoning="weather",
                tool_calls=(m.ToolCall(id="c1", name="look", arguments='{"at": "sky"}'),),
            ),
            m.Message(role="tool", content="blue", tool_call_id="c1"),
        ),
        max_tokens=64,
        sampling=m.Sampling(temperature=0.5, top_p=0.9, seed=2**53 - 1, logit_bias=((5, -1.5),)),
        stop=("END",),
        logprobs=2,
        swap="never",
        on_vanish="hold",
        credit_bytes=65_536,
    ),
    "generate_tools": m.Generate(
        model="smol",
        messages=(m.Message(role="user", content="Weather?"),),
        tools=(
            m.Tool(
                function=m.FunctionSpec(
                    name="look", description="Look up.", parameters={"type": "object"}
                )
            ),
        ),
        tool_choice=m.NamedTool(name="look"),
        response_format=m.ResponseFormat(type="json_schema", schema={"type": "object"}),
        template_args={"enable_thinking": False},
    ),
    "generate_hints": m.Generate(
        model="smol",
        prompt="Once",
        priority=2,
        deadline_s=90.0,
        hold_s=5.0,
        yield_=False,
        next_model="gemma",
    ),
    "generate_append": m.Generate(
        model="smol",
        session="agent",
        append=(m.Message(role="user", content="more"),),
        expect_turn=3,
        queue=True,
        persist=False,
    ),
    "generate_raw": m.Generate(model="gemma", session="tale", append="Once upon"),
    "generate_tokens": m.Generate(model="gemma", tokens=(0, 1, 2**32 - 1)),
    "attach": m.Attach(request_id="work-1", offset_tokens=12, credit_bytes=1024),
    "cancel": m.Cancel(request_id="work-1"),
    "credit": m.Credit(grant_bytes=131_072),
    "status": m.Status(),
    "models": m.Models(),
    "sessions": m.Sessions(model="smol", session="agent"),
    "session_delete": m.SessionDelete(model="smol", session="agent"),
    "session_fork": m.SessionFork(model="smol", session="agent", to="branch", at_turn=2),
    "session_copy": m.SessionCopy(model="smol", session="agent", to_model="big", to="review"),
    "session_rewind": m.SessionRewind(model="smol", session="agent", turn=1),
    "session_replace": m.SessionReplace(
        model="smol",
        session="agent",
        messages=(m.Message(role="user", content="In short: Grüße."),),
        expect_turn=3,
    ),
    "session_pin": m.SessionPin(model="smol", session="agent", pinned=False),
    "count": m.Count(
        model="smol", session="agent", append=(m.Message(role="user", content="?"),), render=True
    ),
    "disk": m.Disk(),
    "kv_verify": m.KvVerify(),
    "kv_gc": m.KvGc(dry_run=True),
    "plan": m.Plan(model="smol"),
    "plan_what_if": m.Plan(model="smol", ram_bytes=24 * 2**30),
    "events": m.Events(since=41, topics=("swap", "request"), credit_bytes=4096),
    "swap": m.Swap(model="gemma", mode="process"),
    "release": m.Release(for_s=1800.0),
    "quote": m.Quote(models=("smol", "gemma"), session="agent"),
    "quote_messages": m.Quote(
        models=("smol",), messages=(m.Message(role="user", content="Grüße"),)
    ),
    "why": m.Why(limit=5),
    "shutdown": m.Shutdown(),
}
DAEMON = {
    "welcome": r.Welcome(
        protocol=1, instance="i-1", token=TOKEN, version="0.1.0", features=("generate", "swap")
    ),
    "pong": r.Pong(),
    "accepted": r.Accepted(position=2, expected_wait_s=1.5, seed=7, replayed=True),
    "accepted_ignored": r.Accepted(
        position=0, seed=7, ignored=("n", "messages[0].reasoning_content")
    ),
    "accepted_slow": r.Accepted(position=0, seed=7, tokens_per_s=0.4),
    "progress": r.Progress(
        phase="loading", model="smol", bytes_done=1, bytes_total=2**40, percent=12.5, elapsed_s=0.25
    ),
    "progress_prefill": r.Progress(phase="prefill", prompt_tokens_done=256, prompt_tokens=600),
    "chunk": r.Chunk(
        seq=3,
        offset_tokens=9,
        tokens=(11, 70_000),
        parts=(
            r.ChunkPart(type="reasoning", text="hm"),
            r.ChunkPart(type="text", text="Größe 🙂"),
            r.ChunkPart(type="tool_call", index=0, id="c1", name="look", arguments_delta='{"a'),
        ),
        logprobs=(r.TokenLogprob(token=11, logprob=-0.5, top=((11, -0.5), (12, -2.0))),),
    ),
    "done": r.Done(
        model="smol",
        text="Paris.",
        tokens=(1, 2, 3),
        finish_reason="length",
        limit="max_tokens",
        usage=r.Usage(
            prompt_tokens=600, restored_tokens=512, computed_tokens=88, completion_tokens=3
        ),
        timing=r.Timing(
            queue_s=0.5, swap_s=1.5, restore_s=0.25, ttft_s=2.5, decode_s=0.5, total_s=3.0
        ),
        session="agent",
        turn=4,
        context="appended",
        seed=7,
        note="persist is off: a swap costs a prefill",
    ),
    "error": r.ErrorBody(
        code="queue_full",
        message="256 requests wait already",
        retryable=True,
        retry_after_s=1.0,
        facts={"waiting": 256, "near": ["smol"]},
    ),
    "event": r.Event(seq=42, at=1_700_000_000.5, name="swap.started", facts={"target": "gemma"}),
    "gap": r.Gap(since=1, next_seq=42, status={"running": True}),
    "reply": r.Reply(result={"cancelled": True, "nested": {"list": [1, None, 2.5]}}),
    "swapped": r.SwapReport(
        from_="smol",
        to="gemma",
        mode="process",
        cause=r.Cause(client="golden[7]", request_id="golden-1", model_asked="gemma"),
        phases=r.SwapPhases(drain_s=0.5, load_s=1.5),
        total_s=2.0,
        memory=r.SwapMemory(available_before=2**33, available_after=2**33, wired_before=2**30),
        sessions_checkpointed=3,
        bytes_written=2**21,
    ),
}
ALL = [("client", name) for name in CLIENT] + [("daemon", name) for name in DAEMON]


def frames_of(direction, name):
    if direction == "client":
        return encode_client(CLIENT[name], RequestId("golden-1"))
    return encode_daemon(DAEMON[name], RequestId("golden-1"))


def join(frames):
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)


def split(data):
    frames = []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        frames.append(data[4 : 4 + size])
        data = data[4 + size :]
    return frames


def describe(direction, frames):
    version, kind, request_id, body = frames
    return {
        "direction": direction,
        "version": version.decode(),
        "kind": kind.decode(),
        "request_id": request_id.decode(),
        "body": msgpack.unpackb(body),
    }


def write():
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*_*.*"):
        old.unlink()
    for direction, name in ALL:
        frames = frames_of(direction, name)
        path = GOLDEN / f"{direction}_{name}"
        path.with_suffix(".bin").write_bytes(join(frames))
        text = json.dumps(describe(direction, frames), indent=2, ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n")


@pytest.mark.parametrize(("direction", "name"), ALL)
def test_golden_bytes_mean_what_the_json_says(direction, name):
    frames = split((GOLDEN / f"{direction}_{name}.bin").read_bytes())
    words = json.loads((GOLDEN / f"{direction}_{name}.json").read_text())
    assert describe(direction, frames) == words


@pytest.mark.parametrize(("direction", "name"), ALL)
def test_golden_bytes_decode_and_encode_to_themselves(direction, name):
    data = (GOLDEN / f"{direction}_{name}.bin").read_bytes()
    envelope = open_envelope(split(data))
    if direction == "client":
        message = decode_client(envelope)
        if isinstance(message, m.Generate):
            assert message.protocol == 2
            message = msgspec.structs.replace(message, protocol=1)  # noted by whoever decodes
        assert message == CLIENT[name]
        assert join(encode_client(message, envelope.request_id)) == data
    else:
        message = decode_daemon(envelope)
        assert message == DAEMON[name]
        assert join(encode_daemon(message, envelope.request_id)) == data


@pytest.mark.parametrize(("direction", "name"), ALL)
def test_golden_json_decodes_to_the_same_message(direction, name):
    """A client whose language has no MessagePack types beyond JSON's loses nothing."""
    words = json.loads((GOLDEN / f"{direction}_{name}.json").read_text())
    expected = CLIENT[name] if direction == "client" else DAEMON[name]
    assert msgspec.convert(words["body"], type(expected)) == expected


def test_every_kind_has_a_golden_file():
    kinds = {json.loads(path.read_text())["kind"] for path in GOLDEN.glob("*.json")}
    assert kinds == set(CLIENT_KINDS) | set(r.DAEMON_KINDS)


def test_no_golden_file_is_left_over():
    names = {f"{direction}_{name}" for direction, name in ALL}
    files = [path for path in GOLDEN.iterdir() if path != OLDER]
    assert {path.stem for path in files} == names
    assert len(files) == 2 * len(names)


@pytest.mark.parametrize("path", sorted(OLDER.glob("client_*.bin")), ids=lambda path: path.stem)
def test_frames_of_a_client_of_version_1_are_read(path):
    data = path.read_bytes()
    envelope = open_envelope(split(data))
    message = decode_client(envelope)
    assert envelope.version == 1
    assert getattr(message, "protocol", 1) == 1
    said = msgpack.unpackb(encode_client(message, envelope.request_id, 1)[-1])
    assert msgpack.unpackb(envelope.body).items() <= said.items()


@pytest.mark.parametrize("path", sorted(OLDER.glob("daemon_*.bin")), ids=lambda path: path.stem)
def test_frames_of_a_daemon_of_version_1_are_read(path):
    envelope = open_envelope(split(path.read_bytes()))
    assert type(decode_daemon(envelope)) is r.DAEMON_KINDS[envelope.kind]


def test_answers_to_a_client_of_version_1_say_so():
    assert encode_daemon(r.Pong(), RequestId("r"), 1)[0] == b"1"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("golden frames are written only on purpose: say --write")
    write()
