"""What a folder's chat template tells of tools, without a tokenizer. Must not know mlx-lm.

Which of two formats with the same mark it is, registering tells; that there is one shows here.
"""

from collections.abc import Iterator
from typing import Any, Final

from hotseat.library.folder import ModelFolder, read_table
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.protocol.model import TemplateProbe
from hotseat.protocol.model_files import NAMED_TEMPLATES, TEMPLATE_FILE, TEMPLATE_TABLE
from hotseat.worker.text.calls.formats import FORMATS, format_of_template, speaks_harmony_in

_KEY: Final = "chat_template"
_TOOLS: Final = "tools"
_LONGEST: Final = 4 * MIB


def look_at_template(folder: ModelFolder) -> TemplateProbe:
    """As much of a probe as text tells: whether tools are shown, and calls could be read."""
    try:
        text = "\n".join(_texts(folder))
    except (HotseatError, OSError):  # registering tells what is wrong with it
        text = ""
    return TemplateProbe(
        mode="raw",
        reason="only headers were read",
        tools=_TOOLS in text and writes_calls(text),
    )


def writes_calls(template: str) -> bool:
    """True if a template has the marks of a format that hotseat reads."""
    return (
        speaks_harmony_in(template)
        or format_of_template(template) is not None
        or any(known.start in template for known in FORMATS.values())
    )


def _texts(folder: ModelFolder) -> Iterator[str]:
    """Every template of the folder, wherever it keeps them."""
    yield from _strings(folder.tokenizer_config.get(_KEY))
    for file in folder.others:
        is_text = file.name == TEMPLATE_FILE or file.parent.name == NAMED_TEMPLATES
        if is_text and file.stat().st_size <= _LONGEST:
            yield file.read_text(encoding="utf-8", errors="replace")
        elif file.name == TEMPLATE_TABLE:
            yield from _strings((read_table(file) or {}).get(_KEY))


def _strings(value: Any) -> Iterator[str]:
    """Texts in a template, or in a list or table of named ones."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)
