"""Images and documents: a line in their place, told once, or an error that names the place."""

import msgspec
import pytest

from hotseat.gateway.chat.body import read_chat
from hotseat.gateway.messages.body import read_messages
from hotseat.gateway.ollama import body as ollama
from hotseat.gateway.parts import MOST, PartWatch
from hotseat.gateway.responses.body import read_response
from hotseat.protocol.errors import HotseatError


def encoded(**body):
    return msgspec.json.encode({"model": "m"} | body)


def chat(content):
    return read_chat(encoded(messages=[{"role": "user", "content": content}]))


def messages(content):
    said = {"role": "user", "content": content}
    return read_messages(encoded(max_tokens=5, messages=[said]))


def responses(*items):
    return read_response(encoded(input=items), lambda _text: None).asked


IMAGE = {"type": "image", "source": {"type": "base64", "data": "aGk="}}
TEXT = {"type": "text", "text": "Look."}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [TEXT, IMAGE]}
INPUT_IMAGE = {"type": "input_image", "image_url": "data:,"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": [INPUT_IMAGE]}


@pytest.mark.parametrize(
    ("asked", "path", "kind"),
    [
        (chat([TEXT, {"type": "image_url"}]), "messages[0].content[1]", "image"),
        (messages([TEXT, IMAGE]), "messages[0].content[1]", "image"),
        (messages([RESULT]), "messages[0].content[0].content[1]", "image"),
        (messages([{"type": "document"}]), "messages[0].content[0]", "document"),
        (responses({"role": "user", "content": [INPUT_IMAGE]}), "input[0].content[0]", "image"),
        (responses(OUTPUT), "input[0].output[0]", "image"),
        (
            ollama.read_chat(encoded(messages=[{"role": "user", "images": ["aGk="]}])).asked,
            "messages[0].images[0]",
            "image",
        ),
        (ollama.read_generate(encoded(prompt="a", images=["aGk="])).asked, "images[0]", "image"),
    ],
)
def test_part_that_is_no_text_is_a_line_told_once_or_an_error_with_its_path(asked, path, kind):
    watch = PartWatch(refuses=False)
    news = watch.see("claude-cli", asked)
    assert (news.agent, news.path, news.kind) == ("claude-cli", path, kind)
    assert watch.see("claude-cli", asked) is None
    assert watch.see("codex", asked).agent == "codex"
    with pytest.raises(HotseatError, match="models take text only") as caught:
        PartWatch(refuses=True).see("claude-cli", asked)
    assert (caught.value.code, caught.value.facts["field"]) == ("unsupported_content", path)


def test_text_alone_is_nothing_to_tell():
    assert PartWatch(refuses=True).see("a", chat([TEXT])) is None


def test_agents_that_were_told_are_a_bounded_number():
    watch, asked = PartWatch(refuses=False), messages([IMAGE])
    assert all(watch.see(str(number), asked) for number in range(MOST + 1))
    assert watch.see("1", asked) is None
    assert watch.see("0", asked) is not None
