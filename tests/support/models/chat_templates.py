"""Small chat templates with the habits of six families, each with a real tokenizer.

What matters is how they treat histories: what they refuse, move, drop, count and look up.
"""

import json
from pathlib import Path
from typing import Final

from mlx_lm.tokenizer_utils import TokenizerWrapper, load
from tokenizers import AddedToken, Tokenizer

from tests.support.models import tiny_models

HERMES: Final = (
    "{% if tools %}<|im_start|>system\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
    "<tools>{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools><|im_end|>\n"
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n"
    "{{ messages[0].content }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'system' and loop.first %}"
    "{% elif m.role == 'tool' %}"
    "{% if loop.previtem is not defined or loop.previtem.role != 'tool' %}<|im_start|>user"
    "{% endif %}\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}"
    '\n<tool_call>\n{"name": "{{ call.function.name }}", "arguments": '
    "{{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Results of one round share a user turn; everything else is taken as it comes."""

LLAMA: Final = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set lead = messages[0].content %}"
    "{% set messages = messages[1:] %}{% else %}{% set lead = '' %}{% endif %}"
    "<|start|>system<|head|>Tools run. {{ lead }}{% for tool in tools or [] %}{{ tool | tojson }}"
    "{% endfor %}<|eot|>{% for m in messages %}"
    "{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('one call at a time') }}{% endif %}<|start|>assistant<|head|>"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": '
    "{{ m.tool_calls[0].function.arguments | tojson }}}<|eot|>"
    "{% elif m.role == 'tool' %}<|start|>ipython<|head|>{{ m.content | tojson }}<|eot|>"
    "{% else %}<|start|>{{ m.role }}<|head|>{{ m.content | trim }}<|eot|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|head|>{% endif %}"
)
"""One call at a time, and no text beside it."""

MISTRAL: Final = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "[SYSTEM]{{ messages[0].content }}[/SYSTEM]{% set messages = messages[1:] %}{% endif %}"
    "{% for tool in tools or [] %}[TOOLS]{{ tool | tojson }}[/TOOLS]{% endfor %}"
    "{% set ns = namespace(turns=0, calls=0) %}{% for m in messages %}"
    "{% if m.role != 'tool' and not m.tool_calls %}"
    "{% if (m.role == 'user') != (ns.turns % 2 == 0) or m.role == 'system' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% set ns.turns = ns.turns + 1 %}"
    "{% endif %}{% if m.role == 'tool' %}{% set ns.calls = ns.calls - 1 %}{% elif ns.calls %}"
    "{{ raise_exception('not as many results as calls') }}{% endif %}"
    "{% for call in m.tool_calls or [] %}{% set ns.calls = ns.calls + 1 %}"
    "{% if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}"
    "{% endfor %}{% endfor %}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% elif m.role == 'tool' %}[RESULT]{{ m.tool_call_id }}: {{ m.content }}[/RESULT]"
    "{% else %}{{ m.content }}{% for call in m.tool_calls or [] %}"
    "[CALL]{{ call.id }} {{ call.function | tojson }}{% endfor %}</s>{% endif %}{% endfor %}"
)
"""Turns alternate, calls have as many results, ids have nine letters."""

GEMMA: Final = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""No system text, no tools, turns alternate."""

DEEPSEEK: Final = (
    "{% set ns = namespace(head='', tool=false) %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.head = ns.head + m.content %}{% endif %}{% endfor %}"
    "{{ bos_token }}{{ ns.head }}{% for m in messages %}"
    "{% if m.role == 'user' %}<|User|>{{ m.content }}"
    "{% elif m.role == 'assistant' and m.content is none %}<|Assistant|>"
    "{% for call in m.tool_calls %}<|call|>{{ call.function.name }}\n"
    "{{ call.function.arguments + '\n' }}<|/call|>{% endfor %}<|eos|>"
    "{% elif m.role == 'assistant' %}<|Assistant|>{{ m.content }}<|eos|>"
    "{% elif m.role == 'tool' %}<|output|>{{ m.content }}<|/output|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>{% endif %}"
)
"""System text is gathered at the head, arguments are text, calls show where content is null."""

HARMONY: Final = (
    "{% set ns = namespace(name='') %}<|start|>system<|message|>Today.<|end|>"
    "{% if messages[0].role in ('system', 'developer') %}<|start|>developer<|message|>"
    "{{ messages[0].content }}<|end|>{% set messages = messages[1:] %}{% endif %}"
    "{% for tool in tools or [] %}<|start|>tools<|message|>{{ tool | tojson }}<|end|>{% endfor %}"
    "{% for m in messages %}{% if m.tool_calls %}{% if m.content and m.thinking %}"
    "{{ raise_exception('content or thinking') }}{% endif %}"
    "{% if m.content or m.thinking %}<|start|>assistant<|channel|>analysis<|message|>"
    "{{ m.content or m.thinking }}<|end|>{% endif %}"
    "{% set ns.name = m.tool_calls[0].function.name %}<|start|>assistant to={{ ns.name }}"
    "<|channel|>commentary<|message|>{{ m.tool_calls[0].function.arguments | tojson }}<|call|>"
    "{% elif m.role == 'tool' %}{% if not ns.name %}{{ raise_exception('no call') }}{% endif %}"
    "<|start|>{{ ns.name }} to=assistant<|message|>{{ m.content | tojson }}<|end|>"
    "{% elif m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "<|end|>{% elif m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
"""Only the first call shows, results are named by the last call, later system text is dropped."""

NAMES_BY_ID: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'tool' %}"
    "{% set ns = namespace(name='unknown') %}{% for other in messages %}"
    "{% for call in other.tool_calls or [] %}{% if call.id == m.tool_call_id %}"
    "{% set ns.name = call.function.name %}{% endif %}{% endfor %}{% endfor %}"
    "{{ ns.name }}: {% endif %}{{ m.content }}{% for call in m.tool_calls or [] %}"
    "{{ call.id }}={{ call.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Like Gemma 4: a result is headed by the name of the call with its id."""

FAMILIES: Final = {
    "hermes": HERMES,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "deepseek": DEEPSEEK,
    "harmony": HARMONY,
}
_ENDS: Final = {
    "hermes": "<|im_end|>",
    "llama": "<|eot|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "deepseek": "<|eos|>",
    "harmony": "<|end|>",
}
_SPECIAL: Final = (
    *("<|start|>", "<|head|>", "<|eot|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>"),
    *("<|User|>", "<|Assistant|>", "<|eos|>", "<|/call|>", "<|output|>", "<|/output|>"),
    *("<start_of_turn>", "<end_of_turn>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM]"),
    *("[/SYSTEM]", "[RESULT]", "[/RESULT]", "[CALL]", "[TOOLS]", "[/TOOLS]"),
)
_MARKS: Final = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "\n\n\n")
"""Added tokens that are not special; the last one stands in no template."""


def load_tokenizer(folder: Path, template: str, *, end: str = "<|im_end|>") -> TokenizerWrapper:
    """A tokenizer with the control tokens of all families and this chat template."""
    tiny_models.write_tokenizer(folder, template="none")
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in _SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in _MARKS])
    tokenizer.save(str(file))
    settings = folder / "tokenizer_config.json"
    changed = {"bos_token": "<s>", "eos_token": end, "chat_template": template}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changed))
    return load(folder)


def load_family(folder: Path, family: str) -> TokenizerWrapper:
    """The tokenizer of one of `FAMILIES`."""
    return load_tokenizer(folder, FAMILIES[family], end=_ENDS[family])
