"""docs/http.md names every field that the bodies of chats, Messages and Ollama know."""

import re
from pathlib import Path

import msgspec
import pytest

from hotseat.gateway.chat import body as chat
from hotseat.gateway.messages import body as messages
from hotseat.gateway.ollama import body as ollama

PAGE = Path(__file__).parents[3] / "docs/http.md"


def known(*kinds):
    return {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("done", known(chat.ChatBody, chat.TextBody)),
        ("without effect", set(chat.IGNORED) - {"stream_options"}),
        ("refused", set(chat.REFUSED)),
        ("done", known(messages.MessagesBody)),
        ("without effect", set(messages.IGNORED)),
        ("refused", set(messages.REFUSED)),
        ("Of `options`", known(ollama.Options)),
    ],
)
def test_fields_of_bodies_are_those_of_the_page(heading, fields):
    text = PAGE.read_text()
    rows = re.findall(rf"^\| {heading} \|(.*)\|$", text, re.MULTILINE) or [
        text[text.index(heading) :]
    ]
    named = [set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", row)))) for row in rows]
    assert any(fields <= found for found in named), fields
