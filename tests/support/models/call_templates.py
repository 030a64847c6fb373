"""Small chat templates that show the calls of a history, one in each format of calls.

Only how a reply's calls are written is the format's own; everything around it is plain.
"""

from typing import Final

_VALUE: Final = "{{ value if value is string else value | tojson }}"
_JSON: Final = (
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
)
_LIST: Final = (
    "{% for call in m.tool_calls %}" + _JSON + "{{ '' if loop.last else ', ' }}{% endfor %}"
)


def _each(text: str) -> str:
    """`text` for every call; `name` and `given` are its name and arguments."""
    return (
        "{% for call in m.tool_calls %}{% set name = call.function.name %}"
        "{% set given = call.function.arguments %}" + text + "{% endfor %}"
    )


def _elements(opening: str, argument: str, closing: str) -> str:
    """Every argument as an element of its own; `key` and its value."""
    text = argument.replace("VALUE", _VALUE)
    return _each(
        opening + "{% for key, value in given.items() %}" + text + "{% endfor %}" + closing
    )


def _quoted(mark: str) -> str:
    """Arguments without quotes around keys, `mark` around strings."""
    text = f"{mark}{{{{ value }}}}{mark}"
    item = f"{mark}{{{{ one }}}}{mark}"
    return (
        "call:{{ name }}{ {%- for key, value in given | dictsort -%}{{ key }}:"
        f"{{% if value is string %}}{text}{{% elif value is iterable %}}"
        f"[{{% for one in value %}}{item}{{{{ '' if loop.last else ',' }}}}{{% endfor %}}]"
        "{% else %}{{ value | tojson }}{% endif %}"
        "{{ '' if loop.last else ',' }}{%- endfor -%} }"
    )


_XML: Final = (
    '<PREinvoke name="{{ name }}">\n',
    '<PREparameter name="{{ key }}">VALUE</PREparameter>\n',
    "</PREinvoke>\n",
)
_GLM: Final = ("<arg_key>{{ key }}</arg_key>\n", "<arg_value>VALUE</arg_value>\n")


def _glm(mark: str, prefix: str = "") -> str:
    key, value = (text.replace("arg_", f"{prefix}arg_") for text in _GLM)
    return _elements(f"\n<{mark}>{{{{ name }}}}\n", key + value, f"</{mark}>")


def _invoked(prefix: str, mark: str) -> str:
    opening, argument, closing = (text.replace("PRE", prefix) for text in _XML)
    return f"<{mark}>\n{_elements(opening, argument, closing)}</{mark}>"


_DS: Final = "｜tool▁"  # noqa: RUF001 - the marks of DeepSeek
CALLS: Final = {
    "json_tools": _each(f"\n<tool_call>\n{_JSON}\n</tool_call>"),
    "qwen3_coder": _elements(
        "\n<tool_call>\n<function={{ name }}>\n",
        "<parameter={{ key }}>\nVALUE\n</parameter>\n",
        "</function>\n</tool_call>",
    ),
    "glm47": _glm("tool_call"),
    "laguna": _glm("tool_call"),
    "longcat": _glm("longcat_tool_call", "longcat_"),
    "minimax_m2": _invoked("", "minimax:tool_call"),
    "muse_spark": _invoked("atem:", "atem:function_calls"),
    "minicpm5": _elements(
        '<function name="{{ name }}">',
        '<param name="{{ key }}">VALUE</param>',
        "</function>",
    ),
    "kimi_k2": "<|tool_calls_section_begin|>"
    + _each(
        "<|tool_call_begin|>functions.{{ name }}:{{ loop.index0 }}<|tool_call_argument_begin|>"
        "{{ given | tojson }}<|tool_call_end|>"
    )
    + "<|tool_calls_section_end|>",
    "kimi_k3": "<|open|>tools<|sep|>"
    + _each(
        '<|open|>call tool="{{ name }}" index="{{ loop.index }}"<|sep|>'
        '<|open|>json type="object"<|sep|>{{ given | tojson }}<|close|>json<|sep|>'
        "<|close|>call<|sep|>"
    )
    + "<|close|>tools<|sep|>",
    "mistral": _each("[TOOL_CALLS]{{ name }}[ARGS]{{ given | tojson }}"),
    "pythonic": "",
    "gemma4": _each(f"<|tool_call>{_quoted('<|QUOTE|>')}<tool_call|>".replace("|QUOTE|", '|"|')),
    "function_gemma": _each(f"<start_function_call>{_quoted('<escape>')}<end_function_call>"),
    "deepseek": f"<{_DS}calls▁begin｜>"  # noqa: RUF001
    + _each(
        f"<{_DS}call▁begin｜>function<{_DS}sep｜>{{{{ name }}}}\n```json\n"  # noqa: RUF001
        f"{{{{ given + '' }}}}\n```<{_DS}call▁end｜>\n"  # noqa: RUF001
    )
    + f"<{_DS}calls▁end｜>",  # noqa: RUF001
    "deepseek_plain": f"<{_DS}calls▁begin｜>"  # noqa: RUF001
    + _each(
        f"<{_DS}call▁begin｜>{{{{ name }}}}<{_DS}sep｜>{{{{ given | tojson }}}}<{_DS}call▁end｜>"  # noqa: RUF001
    )
    + f"<{_DS}calls▁end｜>",  # noqa: RUF001
    "phi": "",
    "granite": "",
    "command": "<|START_ACTION|>[{% for call in m.tool_calls %}"
    '{"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ call.function.name }}", '
    '"parameters": {{ call.function.arguments | tojson }}}{{ "" if loop.last else ", " }}'
    "{% endfor %}]<|END_ACTION|>",
    "llama": "{% if m.tool_calls | length > 1 %}{{ raise_exception('one call') }}{% endif %}"
    + _each('{"name": "{{ name }}", "parameters": {{ given | tojson }}}'),
    "harmony": "{% if m.tool_calls | length > 1 %}{{ raise_exception('one call') }}{% endif %}"
    + _each(
        " to=functions.{{ name }}<|channel|>commentary json<|message|>{{ given | tojson }}<|call|>"
    ),
}
"""By the format's name; empty where the models' own templates show no calls."""


def template_of(name: str) -> str:
    """A chat template whose replies begin with `<|im_start|>assistant` and end with a newline."""
    return (
        "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.tool_calls %}{{ m.content or '' }}"
        + CALLS[name]
        + "{% else %}\n{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    )
