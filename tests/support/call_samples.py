"""What models write in each format of calls, with what it means. Must not know pytest."""

import json

from msgspec import Struct

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import FunctionSpec, Tool
from hotseat.protocol.parts import join_parts
from hotseat.worker.text.calls.formats import FORMATS, HARMONY
from hotseat.worker.text.channels import Channels
from hotseat.worker.text.speech import Speech

LOOK = Tool(
    function=FunctionSpec(
        name="look",
        parameters={
            "type": "object",
            "properties": {
                "at": {"type": "string"},
                "times": {"type": "integer"},
                "near": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["at"],
        },
    )
)
REST = Tool(function=FunctionSpec(name="rest"))
WRITE = Tool(
    function=FunctionSpec(
        name="write",
        parameters={
            "type": "object",
            "properties": {
                "content": {"type": "string"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "count": {"type": "number"},
            },
        },
    )
)
TOOLS = (LOOK, REST, WRITE)
ARGUMENTS = {"at": "the sky", "times": 2, "near": ["a", "b"]}


class Tokenizer:
    """What a splitter asks of a tokenizer: marks of reasoning."""

    has_thinking = True
    think_start, think_end = "<think>", "</think>"
    structural_markers = ()
    response_initial_state = None

    def __init__(self):
        self.response_transitions = {}


def splitter_of(name, *, tools=TOOLS, thinks=False):
    """The splitter of a format."""
    if name == HARMONY:
        return Channels(RequestKey("t:1"), tools)
    return Speech(Tokenizer(), FORMATS.get(name), RequestKey("t:1"), tools, thinks=thinks)


def parts_of(name, text, cuts=(), **options):
    """Parts of a whole output that comes in pieces."""
    splitter = splitter_of(name, **options)
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    found = []
    for begin, end in zip([0, *ends], ends, strict=False):
        found.extend(splitter.push(text[begin:end]))
    return join_parts([*found, *splitter.close()])


def said(parts):
    """Parts as short tuples: calls as (name, arguments), words as (type, text)."""
    return [
        (part.name, json.loads(part.arguments_delta))
        if part.type == "tool_call"
        else (part.type, part.text)
        for part in parts
    ]


def error_of(name, text):
    """The reason why a text is no call; the text has to be there whole."""
    parts = parts_of(name, text)
    assert "".join(part.text for part in parts) == text
    assert all(part.type == "text" for part in parts)
    return next(part.tool_parse_error for part in parts if part.tool_parse_error)


class Sample(Struct, frozen=True):
    """A call of `look` with ARGUMENTS and one of `rest`, as a model of this format writes them.

    `both`: the two in one answer.
    """

    name: str
    look: str
    rest: str
    both: str


def _marked(name, look, rest, between=""):
    start, end = FORMATS[name].start, FORMATS[name].end
    return Sample(
        name,
        f"{start}{look}{end}",
        f"{start}{rest}{end}",
        f"{start}{look}{between}{rest}{end}"
        if between is not None
        else f"{start}{look}{end}{start}{rest}{end}",
    )


_LOOK_JSON = json.dumps({"name": "look", "arguments": ARGUMENTS})
_REST_JSON = '{"name": "rest", "arguments": {}}'
_CODER_LOOK = (
    "\n<function=look>\n<parameter=at>\nthe sky\n</parameter>\n<parameter=times>\n2\n</parameter>\n"
    '<parameter=near>\n["a", "b"]\n</parameter>\n</function>\n'
)
_GLM_LOOK = (
    "look\n<arg_key>at</arg_key>\n<arg_value>the sky</arg_value>\n"
    "<arg_key>times</arg_key>\n<arg_value>2</arg_value>\n"
    '<arg_key>near</arg_key>\n<arg_value>["a", "b"]</arg_value>\n'
)
_MINIMAX_LOOK = (
    '\n<invoke name="look">\n<parameter name="at">the sky</parameter>\n'
    '<parameter name="times">2</parameter>\n<parameter name="near">["a", "b"]</parameter>\n'
    "</invoke>\n"
)
_K3_JSON = (
    '<|open|>call tool="look" index="1"<|sep|><|open|>json type="object"<|sep|>'
    f"{json.dumps(ARGUMENTS)}<|close|>json<|sep|><|close|>call<|sep|>"
)
_DS = "｜tool▁"  # noqa: RUF001 - the marks of DeepSeek
_DS_LOOK = (
    f"<{_DS}call▁begin｜>function<{_DS}sep｜>look\n```json\n"  # noqa: RUF001
    f"{json.dumps(ARGUMENTS)}\n```<{_DS}call▁end｜>"  # noqa: RUF001
)
_DS_REST = f"<{_DS}call▁begin｜>function<{_DS}sep｜>rest\n```json\n{{}}\n```<{_DS}call▁end｜>"  # noqa: RUF001
_DSP_LOOK = f"<{_DS}call▁begin｜>look<{_DS}sep｜>{json.dumps(ARGUMENTS)}<{_DS}call▁end｜>"  # noqa: RUF001
_DSP_REST = f"<{_DS}call▁begin｜>rest<{_DS}sep｜>{{}}<{_DS}call▁end｜>"  # noqa: RUF001
_K2_LOOK = (
    "<|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>"
    f"{json.dumps(ARGUMENTS)}<|tool_call_end|>"
)
_K2_REST = "<|tool_call_begin|>functions.rest:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
_COMMAND_LOOK = {"tool_call_id": "0", "tool_name": "look", "parameters": ARGUMENTS}
_COMMAND_REST = {"tool_call_id": "1", "tool_name": "rest", "parameters": {}}
_HARMONY_LOOK = (
    "<|channel|>commentary to=functions.look <|constrain|>json<|message|>"
    f"{json.dumps(ARGUMENTS)}<|call|>"
)
_HARMONY_REST = "<|channel|>commentary to=functions.rest<|message|>{}<|call|>"
_GEMMA4_LOOK = 'call:look{at:<|"|>the sky<|"|>,times:2,near:[<|"|>a<|"|>,<|"|>b<|"|>]}'
_FG_LOOK = (
    "call:look{at:<escape>the sky<escape>,times:2,near:[<escape>a<escape>,<escape>b<escape>]}"
)
_MUSE_LOOK = _MINIMAX_LOOK.replace("<invoke", "<atem:invoke").replace("</invoke", "</atem:invoke")
_MUSE_LOOK = _MUSE_LOOK.replace("<parameter", "<atem:parameter").replace(
    "</parameter", "</atem:parameter"
)

SAMPLES = {
    sample.name: sample
    for sample in (
        _marked("json_tools", f"\n{_LOOK_JSON}\n", f"\n{_REST_JSON}\n", None),
        _marked("qwen3_coder", _CODER_LOOK, "\n<function=rest>\n</function>\n", None),
        _marked("glm47", _GLM_LOOK, "rest", None),
        _marked("laguna", _GLM_LOOK, "rest", None),
        _marked(
            "longcat",
            _GLM_LOOK.replace("<arg_", "<longcat_arg_").replace("</arg_", "</longcat_arg_"),
            "rest",
            None,
        ),
        _marked("minimax_m2", _MINIMAX_LOOK, '<invoke name="rest">\n</invoke>\n'),
        _marked("muse_spark", _MUSE_LOOK, '<atem:invoke name="rest"></atem:invoke>\n'),
        _marked(
            "minicpm5",
            '"look"><param name="at">the sky</param><param name="times">2</param>'
            '<param name="near"><![CDATA[["a", "b"]]]></param>',
            '"rest">',
            None,
        ),
        _marked("kimi_k2", _K2_LOOK, _K2_REST),
        _marked("kimi_k3", _K3_JSON, '<|open|>call tool="rest"<|sep|><|close|>call<|sep|>'),
        Sample(
            "mistral",
            f"[TOOL_CALLS]look[ARGS]{json.dumps(ARGUMENTS)}",
            "[TOOL_CALLS]rest[ARGS]{}",
            f"[TOOL_CALLS]look[ARGS]{json.dumps(ARGUMENTS)}[TOOL_CALLS]rest[ARGS]{{}}",
        ),
        _marked(
            "pythonic",
            '[look(at="the sky", times=2, near=["a", "b"])]',
            "[rest()]",
            None,
        ),
        _marked("gemma4", _GEMMA4_LOOK, "call:rest{}", None),
        _marked("function_gemma", _FG_LOOK, "call:rest{}", None),
        _marked("deepseek", _DS_LOOK, _DS_REST, "\n"),
        _marked("deepseek_plain", _DSP_LOOK, _DSP_REST),
        Sample(
            "phi",
            f"<|tool_call|>[{_LOOK_JSON}]<|/tool_call|>",
            f"<|tool_call|>[{_REST_JSON}]<|/tool_call|>",
            f"<|tool_call|>[{_LOOK_JSON}, {_REST_JSON}]<|/tool_call|>",
        ),
        Sample(
            "granite",
            f"<|tool_call|>[{_LOOK_JSON}]",
            f"<|tool_call|>[{_REST_JSON}]",
            f"<|tool_call|>[{_LOOK_JSON}, {_REST_JSON}]",
        ),
        Sample(
            "command",
            f"<|START_ACTION|>[{json.dumps(_COMMAND_LOOK)}]<|END_ACTION|>",
            f"<|START_ACTION|>[{json.dumps(_COMMAND_REST)}]<|END_ACTION|>",
            f"<|START_ACTION|>{json.dumps([_COMMAND_LOOK, _COMMAND_REST])}<|END_ACTION|>",
        ),
        Sample(
            "llama",
            json.dumps({"name": "look", "parameters": ARGUMENTS}),
            '<|python_tag|>{"name": "rest", "parameters": {}}',
            f"<|python_tag|>{_LOOK_JSON.replace('arguments', 'parameters')}; {_REST_JSON}",
        ),
        Sample(
            HARMONY,
            _HARMONY_LOOK,
            _HARMONY_REST,
            f"{_HARMONY_LOOK}<|start|>assistant{_HARMONY_REST}",
        ),
    )
}
