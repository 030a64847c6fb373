"""Valid bodies of every path of the gateway, and ways to spoil them."""

import copy
import json

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Lima"]}, "days": {"type": "integer"}},
    "required": ["city"],
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Name a river."}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "The Rhine."},
    {"role": "user", "content": "And another?"},
]
FUNCTION = {"name": "look", "description": "Looks.", "parameters": SCHEMA}
BLOCKS = [
    {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {}}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "x"},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"city": "Rome"}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "Sunny."}],
    },
]
ITEMS = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "Sunny."},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"role": "user", "content": "Go on."},
]
DRAWN = {"temperature": 0.7, "top_p": 0.9, "stop": ["END"], "seed": 4}
VALID = {
    "/v1/chat/completions": {
        "messages": TALK,
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "none",
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        "max_completion_tokens": 4,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"3": -100},
        "reasoning_effort": "low",
        "stream_options": {"include_usage": True},
        "stream": True,
        **DRAWN,
    },
    "/v1/completions": {"prompt": "Name a river.", "max_tokens": 4, "logprobs": 1, **DRAWN},
    "/v1/messages": {
        "messages": BLOCKS,
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low"},
        "max_tokens": 4,
        "stop_sequences": ["END"],
        "stream": True,
    },
    "/v1/messages/count_tokens": {"messages": BLOCKS, "system": "Be brief."},
    "/v1/responses": {
        "input": ITEMS,
        "instructions": "Be brief.",
        "tools": [{"type": "function", **FUNCTION}, {"type": "web_search"}],
        "tool_choice": "auto",
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}},
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 4,
        "store": True,
        "stream": True,
        "temperature": 0.7,
    },
    "/v1/responses/input_tokens": {"input": ITEMS, "instructions": "Be brief."},
    "/api/chat": {
        "messages": [{"role": "user", "content": "Hi", "images": ["aGk="]}],
        "tools": [{"type": "function", "function": FUNCTION}],
        "format": SCHEMA,
        "options": {"num_predict": 4, "temperature": 0.5, "stop": ["END"]},
        "keep_alive": "5m",
        "think": False,
    },
    "/api/generate": {"prompt": "Hi", "system": "Be brief.", "options": {"num_predict": 4}},
    "/api/show": {},
}
ODD = (
    *(None, True, 0, -1, 1, 2**31, 2**63, -(2**63), 2**70, 0.5, -0.0, 1e308),
    *("", " ", "a", "\x00", "\U0001f600", "auto", "none", "x" * 3000, "{}", "\ufffd"),
    *([], {}, [[]], [None], {"": None}, {"type": "text"}, {"type": "image"}, [{}], [1, "a"]),
)
BYTES = (b"", b"\x00", b"{", b"}", b'"', b"\xff", b"\\ud800", b"[" * 200, b"1e999", b"NaN")


def spoilt(rng, body):
    """Bytes of a body with one to three changes, of values or of bytes."""
    plain = copy.deepcopy(body)
    for _ in range(rng.randrange(1, 4)):
        _spoil(rng, plain)
    data = json.dumps(plain).encode()
    if rng.randrange(4) == 0:
        at, much = rng.randrange(len(data) + 1), rng.randrange(4)
        data = data[:at] + rng.choice(BYTES) + data[at + much :]
    return data


def _spoil(rng, plain):
    """Changes one place of an object, as deep as it happens to be."""
    node = plain
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.randrange(3):
            node = node[key]
            continue
        match rng.randrange(4):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.append(copy.deepcopy(node[key]))
            case 1:
                node[rng.choice(["extra", "type", "model", "content"])] = copy.deepcopy(
                    rng.choice(ODD)
                )
            case _:
                node[key] = copy.deepcopy(rng.choice(ODD))
        return
