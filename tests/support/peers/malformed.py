"""Malformed input by class: frames that are no message, and bodies that cannot be honoured."""

import os

import msgpack

from hotseat.protocol.limits import MAX_FRAME_BYTES, MIB


def body(value):
    return msgpack.packb(value)


def nested(depth):
    return b"\x91" * depth + b"\xc0"


STATUS = (b"1", b"status", b"r")
FRAMES = {
    "one empty frame": ((b"",), "bad_frame"),
    "two frames": ((b"1", b"status"), "bad_frame"),
    "three frames": ((b"1", b"status", b"r"), "bad_frame"),
    "five frames": ((*STATUS, body({}), b""), "bad_frame"),
    "nine frames": ((b"1",) * 9, "bad_frame"),
    "version is text": ((b"one", b"status", b"r", body({})), "bad_frame"),
    "version is huge": ((b"9" * 400, b"status", b"r", body({})), "bad_frame"),
    "version is of tomorrow": ((b"3", b"status", b"r", body({})), "version_mismatch"),
    "version is zero": ((b"0", b"status", b"r", body({})), "version_mismatch"),
    "version in other digits": (("²".encode(), b"status", b"r", body({})), "bad_frame"),
    "unknown kind": ((b"1", b"frobnicate", b"r", body({})), "unknown_kind"),
    "kind of the daemon": ((b"1", b"done", b"r", body({})), "unknown_kind"),
    "kind is no text": ((b"1", b"\xff\xfe", b"r", body({})), "bad_frame"),
    "kind is a megabyte": ((b"1", b"k" * MIB, b"r", body({})), "unknown_kind"),
    "id is empty": ((b"1", b"status", b"", body({})), "bad_frame"),
    "id is a path": ((b"1", b"status", b"../r", body({})), "bad_frame"),
    "id is long": ((b"1", b"status", b"r" * 65, body({})), "bad_frame"),
    "id has a newline": ((b"1", b"status", b"r\n", body({})), "bad_frame"),
    "empty body": ((*STATUS, b""), "bad_frame"),
    "garbage body": ((*STATUS, os.urandom(64) + b"\xc1"), "bad_frame"),
    "cut body": ((*STATUS, body({"a": "bcdef"})[:-2]), "bad_frame"),
    "body with a rest": ((*STATUS, body({}) + b"\x00"), "bad_frame"),
    "body is a list": ((*STATUS, body([1])), "bad_frame"),
    "body is nil": ((*STATUS, body(None)), "bad_frame"),
    "key is a number": ((*STATUS, body({1: 2})), "bad_frame"),
    "key is binary": ((*STATUS, body({b"a": 2})), "bad_frame"),
    "ext type": ((*STATUS, body({"a": msgpack.ExtType(5, b"x")})), "bad_frame"),
    "timestamp": ((*STATUS, body({"a": msgpack.Timestamp(1)})), "bad_frame"),
    "binary value": ((*STATUS, body({"a": b"x"})), "bad_frame"),
    "text is not UTF-8": ((*STATUS, b"\x81\xa1a\xa1\xff"), "bad_frame"),
    "integer beyond JavaScript": ((*STATUS, body({"a": 2**53})), "bad_frame"),
    "negative integer beyond": ((*STATUS, body({"a": -(2**53)})), "bad_frame"),
    "not a number": ((*STATUS, body({"a": float("nan")})), "bad_frame"),
    "infinity": ((*STATUS, body({"a": float("inf")})), "bad_frame"),
    "40 levels": ((*STATUS, body({"a": 1})[:2] + b"a" + nested(40)), "bad_frame"),
    "100,000 levels": ((*STATUS, b"\x81\xa1a" + nested(100_000)), "bad_frame"),
    "70,000 items": ((*STATUS, body({"a": [0] * 70_000})), "bad_frame"),
    "70,000 items in pieces": ((*STATUS, body({"a": [[0] * 700] * 100})), "bad_frame"),
    "array that says it is huge": ((*STATUS, b"\x81\xa1a\xdd\xff\xff\xff\xff"), "bad_frame"),
    "text that says it is huge": ((*STATUS, b"\x81\xa1a\xdb\xff\xff\xff\xff"), "bad_frame"),
    "8 frames of 8 MiB": ((b"\x00" * MAX_FRAME_BYTES,) * 8, "bad_frame"),
    "16 MiB in three frames": (
        (b"1", b"k" * MAX_FRAME_BYTES, b"x" * MAX_FRAME_BYTES, b""),
        "bad_frame",
    ),
}

OK = {"model": "a", "prompt": "x"}
BODIES = {
    "model is missing": ("generate", {"prompt": "x"}, "invalid_request", "model"),
    "model is a number": ("generate", OK | {"model": 5}, "invalid_request", "model"),
    "model is empty": ("generate", OK | {"model": ""}, "invalid_request", "model"),
    "model is unknown": ("generate", OK | {"model": "aa"}, "unknown_model", "aa"),
    "model is a path": ("generate", OK | {"model": "../a"}, "unknown_model", "../a"),
    "no input": ("generate", {"model": "a"}, "invalid_request", "prompt"),
    "two inputs": ("generate", OK | {"tokens": [1]}, "invalid_request", "tokens"),
    "prompt is empty": ("generate", OK | {"prompt": ""}, "invalid_request", "prompt"),
    "prompt is a list": ("generate", OK | {"prompt": ["x"]}, "invalid_request", "prompt"),
    "tokens are negative": (
        "generate",
        {"model": "a", "tokens": [-1]},
        "invalid_request",
        "tokens",
    ),
    "tokens are true": ("generate", {"model": "a", "tokens": [True]}, "invalid_request", "tokens"),
    "max_tokens -1": ("generate", OK | {"max_tokens": -1}, "invalid_request", "max_tokens"),
    "max_tokens is text": ("generate", OK | {"max_tokens": "9"}, "invalid_request", "max_tokens"),
    "temperature below 0": (
        "generate",
        OK | {"sampling": {"temperature": -1.0}},
        "invalid_request",
        "sampling.temperature",
    ),
    "session is a path": ("generate", OK | {"session": "../x"}, "invalid_request", "session"),
    "session is empty": ("generate", OK | {"session": ""}, "invalid_request", "session"),
    "role is unknown": (
        "generate",
        {"model": "a", "messages": [{"role": "boss"}]},
        "invalid_request",
        "messages[0].role",
    ),
    "content is a number": (
        "generate",
        {
            "model": "a",
            "messages": [{"role": "user", "content": "x"}, {"role": "user", "content": 5}],
        },
        "invalid_request",
        "messages[1].content",
    ),
    "image": (
        "generate",
        {"model": "a", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "unsupported_content",
        "image_url",
    ),
    "tools": ("generate", OK | {"tools": [{}]}, "invalid_request", "tools[0]"),
    "tools on text": ("generate", OK | {"tools": []}, "unsupported_feature", "tools"),
    "17 stop strings": ("generate", OK | {"stop": ["x"] * 17}, "invalid_request", "stop"),
    "empty stop string": ("generate", OK | {"stop": [""]}, "invalid_request", "stop"),
    "append without a session": (
        "generate",
        {"model": "a", "append": "x"},
        "invalid_request",
        "session",
    ),
    "seated by nobody's name": ("generate", OK | {"model": "seat"}, "unknown_model", "seat"),
    "never swaps": ("generate", OK | {"model": "b", "swap": "never"}, "not_seated", "never"),
    "swap is unknown": ("generate", OK | {"swap": "now"}, "invalid_request", "swap"),
    "swap to nobody": ("swap", {"model": "nobody"}, "unknown_model", "nobody"),
    "attach to nothing": ("attach", {"request_id": "none"}, "request_unknown", "none"),
    "attach below 0": (
        "attach",
        {"request_id": "x", "offset_tokens": -1},
        "invalid_request",
        "offset_tokens",
    ),
    "cancel of nothing": ("cancel", {"request_id": "none"}, "request_unknown", "none"),
    "cancel without an id": ("cancel", {}, "invalid_request", "request_id"),
    "plan of nobody": ("plan", {"model": "nobody"}, "unknown_model", "nobody"),
    "session of nobody": ("sessions", {"session": "x"}, "invalid_request", "model"),
    "session missing": ("sessions", {"model": "a", "session": "../x"}, "session_missing", "../x"),
    "delete of nothing": (
        "session_delete",
        {"model": "a", "session": "none"},
        "session_missing",
        "none",
    ),
    "delete of a path": (
        "session_delete",
        {"model": "a", "session": "../../x"},
        "invalid_request",
        "../../x",
    ),
    "hello of yesterday": ("hello", {"protocol": 0}, "version_mismatch", "0"),
    "hello with a short token": (
        "hello",
        {"protocol": 1, "token": "ab"},
        "invalid_request",
        "token",
    ),
    "hello with a token and a newline": (
        "hello",
        {"protocol": 1, "token": "a" * 32 + "\n"},
        "invalid_request",
        "token",
    ),
    "events since yesterday": ("events", {"since": -1}, "invalid_request", "since"),
    "credit of nothing": ("credit", {"grant_bytes": 0}, "invalid_request", "grant_bytes"),
}
