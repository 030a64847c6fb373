"""What is misspelt is not dropped: clients refuse it with near matches, the daemon names it."""

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.cli.chat.histories import read_history
from hotseat.client.requests import GenerateOptions, as_message, build_generate
from hotseat.protocol.codec import (
    decode_client,
    decode_daemon,
    encode_daemon,
    ignored_fields,
    open_envelope,
)
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId
from hotseat.protocol.messages import Generate, Sampling
from hotseat.protocol.replies import Accepted

UNKNOWN = [
    ({"temprature": 1.0}, "temprature", ["temperature"]),
    ({"n": 2}, "n", []),
    (
        {"response_format": {"type": "json_schema", "shema": {}}},
        "response_format.shema",
        ["schema"],
    ),
    ({"messages": [{"role": "user", "contents": "x"}]}, "messages[0].contents", ["content"]),
    (
        {"messages": [{"role": "assistant", "content": "x", "reasoning_content": "hm"}]},
        "messages[0].reasoning_content",
        ["reasoning"],
    ),
    (
        {"tools": [{"function": {"name": "f", "parameter": {}}}]},
        "tools[0].function.parameter",
        ["parameters"],
    ),
]


def asked(**fields):
    envelope = open_envelope([b"1", b"generate", b"r", msgpack.packb(fields)])
    return decode_client(envelope), ignored_fields(envelope)


@pytest.mark.parametrize(("options", "field", "near"), UNKNOWN)
def test_keyword_that_is_none_is_refused_with_those_that_look_like_it(options, field, near):
    with pytest.raises(HotseatError) as caught:
        build_generate("m", **({"prompt": "x"} | options))
    error = caught.value
    assert (error.code, error.facts["field"]) == ("invalid_request", field)
    assert error.facts["near"][:1] == near
    assert all(name in error.message for name in near or ["known: "])


def test_every_field_of_a_request_is_a_keyword():
    known = {name.rstrip("_") for name in GenerateOptions.__annotations__}
    fields = {*Generate.__struct_fields__, *Sampling.__struct_fields__}
    assert {name.rstrip("_") for name in fields} - known == {
        "model",
        "sampling",
        "credit_bytes",
        "protocol",
    }


def test_names_of_ones_own_are_no_unknown_fields():
    schema = {"type": "object", "properties": {"anything": {"x-mine": 1}}}
    tool = {"function": {"name": "f", "parameters": schema}}
    wanted = {"type": "json_schema", "schema": schema}
    made = build_generate(
        "m", prompt="x", tools=[tool], response_format=wanted, template_args={"loud": 1}
    )
    assert made.response_format.schema == schema


def test_part_that_no_model_takes_is_left_to_its_own_error():
    part = {"type": "image_url", "image_url": {"url": "x"}}
    assert build_generate("m", messages=[{"role": "user", "content": [part]}])


def test_message_with_a_field_that_is_none_is_refused():
    with pytest.raises(HotseatError, match="did you mean content"):
        as_message({"role": "user", "contnet": "x"})


def test_history_on_the_command_line_with_a_field_that_is_none_is_refused():
    with pytest.raises(HotseatError, match="did you mean content"):
        read_history('[{"role": "user", "contnet": "x"}]')


def test_daemon_takes_the_request_and_names_what_it_ignores():
    message, ignored = asked(
        model="m",
        n=2,
        sampling={"temprature": 1.0},
        messages=[{"role": "user", "content": "x", "reasoning_content": "hm"}],
    )
    assert message == build_generate("m", None, messages=[{"role": "user", "content": "x"}])
    assert ignored == ("n", "sampling.temprature", "messages[0].reasoning_content")


def test_many_unknown_fields_are_named_up_to_a_limit():
    _, ignored = asked(model="m", prompt="x", **{f"{n}" + "x" * 500: 1 for n in range(500)})
    assert len(ignored) == 32
    assert all(len(path) <= 64 for path in ignored)


@given(
    st.recursive(st.none() | st.integers(0, 9), st.lists) | st.dictionaries(st.text(), st.none())
)
def test_known_fields_are_never_named_whatever_the_unknown_ones_hold(value):
    names = {"model": "m", "prompt": "x", "stop": ["a"], "queue": True}
    assert asked(**names, strange=value)[1] == ("strange",)


def test_accepted_says_what_was_ignored_only_if_something_was():
    quiet = encode_daemon(Accepted(position=0), RequestId("r"))
    assert b"ignored" not in quiet[-1]
    told = encode_daemon(Accepted(position=0, ignored=("n",)), RequestId("r"))
    assert decode_daemon(open_envelope(told)).ignored == ("n",)
    assert decode_daemon(open_envelope(quiet)).ignored is msgspec.UNSET
