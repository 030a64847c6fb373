"""Which ids end a turn, from everything a model folder says of it. Must not know records.

A model may write an end that its configuration does not list: then only the template that shows it
finished turns tells what it learnt to end them with.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hotseat.library.folder import ModelFolder, read_table
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message
from hotseat.protocol.model import TemplateProbe
from hotseat.protocol.model_files import GENERATION_CONFIG
from hotseat.worker.text.rendering import Renderer

_KEY: Final = "eos_token_id"
_CLOCK: Final = 1_700_000_000.0
_QUESTION: Final = Message(role="user", content="Which way is it to the harbour?")
_ANSWERS: Final = ("Downhill", "Past 3 old mills")


def stated_ends(folder: ModelFolder) -> frozenset[int]:
    """Those that config.json, its text_config and generation_config.json name, also in lists."""
    config = folder.config
    tables = (config, config.get("text_config"), read_table(folder.path / GENERATION_CONFIG))
    return frozenset(token for table in tables for token in _ids_of(table))


def _ids_of(table: Any) -> Iterator[int]:
    value = table.get(_KEY) if isinstance(table, Mapping) else None
    for token in value if isinstance(value, list) else [value]:
        if isinstance(token, int) and not isinstance(token, bool) and token >= 0:
            yield token


def template_end(tokenizer: Any) -> int | None:
    """The token by which the template closes an answer; None if it has none for that.

    Everything that follows an answer has to be such a mark or white space: a mark with words behind
    it opens or closes something inside of a turn.
    """
    renderer = Renderer(tokenizer, TemplateProbe(mode="raw"))
    try:
        rendered = [
            renderer.render(
                [_QUESTION, Message(role="assistant", content=text)],
                _CLOCK,
                generation_prompt=False,
            )
            for text in _ANSWERS
        ]
    except HotseatError:
        return None
    marks = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    found: int | None = None
    for token, other in zip(*(reversed(ids) for ids in rendered), strict=False):
        if token != other:
            break
        if not tokenizer.decode([token]).strip():
            continue
        if token not in marks:
            return None
        found = token
    return found
