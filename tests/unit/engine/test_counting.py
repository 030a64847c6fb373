"""A worker counts what a request would feed, seated or not, and runs nothing for it."""

import json
import queue
from pathlib import Path

import pytest
from msgspec import structs
from tests.support.engine.engine_harness import FakeSupervisor, make_engine, tiny_record

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import CountPrompt, Start, TextInput, WholeInput
from hotseat.protocol.link_reports import Counted, Started
from hotseat.protocol.messages import Message, ResponseFormat, Sampling
from hotseat.protocol.tokens import unpack_tokens

ASK = WholeInput(messages=(Message(role="user", content="How long is this question?"),))


AT_ODDS = ResponseFormat(
    type="json_schema", schema={"allOf": [{"type": "string"}, {"type": "number"}]}
)


def order(record, given, *, wants_text=False, form=None):
    start = Start(
        request=RequestKey("count:1"),
        session=None,
        input=given,
        clock=0.0,
        sampling=Sampling(),
        seed=0,
        response_format=form,
    )
    return CountPrompt(record=record, start=start, wants_text=wants_text)


@pytest.fixture
def record(tmp_path):
    return tiny_record(tmp_path, "llama")


def test_seated_worker_counts_what_a_request_then_feeds(record, tmp_path):
    supervisor = FakeSupervisor(record, tmp_path / "kv")
    supervisor.seat()
    supervisor.engine.handle(order(record, ASK))
    counted = supervisor.until(Counted)
    started = supervisor.until(Started, supervisor.start(ASK, max_tokens=1))
    assert counted.tokens == started.prompt
    supervisor.unseat()


def counted_by_standby(record, given, **options):
    answers = queue.SimpleQueue()
    engine = make_engine(answers.put)
    try:
        engine.handle(order(record, given, **options))
        return answers.get(timeout=20.0)
    finally:
        engine.close()


def test_worker_without_a_model_loads_the_tokenizer_to_count(record):
    counted = counted_by_standby(record, ASK, wants_text=True)
    assert "How long is this question?" in counted.text
    assert len(unpack_tokens(counted.tokens)) > 5


def test_what_cannot_be_rendered_is_answered_with_its_code(record):
    counted = counted_by_standby(record, TextInput(text=""))
    assert (counted.code, counted.tokens) == ("invalid_request", b"")


def test_tokenizer_that_cannot_be_loaded_is_said(record, tmp_path):
    (tmp_path / "src" / "tiny" / "tokenizer.json").unlink()
    counted = counted_by_standby(record, ASK)
    assert counted.code == "model_unavailable"
    assert "tokenizer.json" in counted.message


def test_template_that_fails_in_its_own_way_is_an_answer(record):
    config = Path(record.path) / "tokenizer_config.json"
    held = json.loads(config.read_text()) | {"chat_template": "{{ 1 // 0 }}"}
    config.write_text(json.dumps(held))
    for extra in Path(record.path).glob("chat_template*"):
        extra.unlink()
    seen = config.stat()
    files = tuple(
        structs.replace(file, size_bytes=seen.st_size, mtime_ns=seen.st_mtime_ns)
        if file.name == config.name
        else file
        for file in record.files
    )
    counted = counted_by_standby(structs.replace(record, files=files), ASK)
    assert counted.code == "invalid_request"
    assert "chat template refuses them (integer division or modulo by zero)" in counted.message


def test_worker_without_a_model_refuses_a_form_that_contradicts_itself(record):
    counted = counted_by_standby(record, ASK, form=AT_ODDS)
    assert (counted.code, counted.tokens) == ("invalid_request", b"")
    assert counted.facts["field"] == "response_format.schema"
    assert counted_by_standby(record, ASK, form=ResponseFormat(type="json_object")).code == ""
