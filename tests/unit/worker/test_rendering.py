"""Rendering whole dialogues and appending turns."""

import json
from pathlib import Path

import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper, load
from tests.support.models import tiny_models
from tokenizers import Tokenizer, processors

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, Part, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.text.rendering import Renderer
from hotseat.worker.text.template_probe import probe_template

CLOCK = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
LLAMA2_LIKE = (
    "{{ '<|endoftext|>' }}{% if messages[0]['role'] == 'system' %}"
    "{% set lead = messages[0]['content'] + '\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set lead = '' %}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}<|im_start|>{{ lead if loop.first else '' }}{{ m['content'] }} = "
    "{% else %}{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_DATE = "Today is {{ strftime_now('%d %b %Y') }}.\n" + tiny_models.CHATML
WITH_TOOLS = (
    "{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'tool' %}result {{ m['content'] }}"
    "{% elif m['tool_calls'] %}{% for c in m['tool_calls'] %}"
    "call {{ c['function']['name'] }}({% for k, v in c['function']['arguments'].items() %}"
    "{{ k }}={{ v }}{% endfor %}){% endfor %}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRUNCATES = (
    "{% for m in messages[-3:] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


@pytest.fixture
def tokenizer_with(tmp_path):
    def make(template: str | None) -> TokenizerWrapper:
        known = template in ("chatml", "thinking", "none")
        tiny_models.write_tokenizer(tmp_path, template=template if known else "none")
        if not known:
            file = Path(tmp_path) / "tokenizer_config.json"
            config = json.loads(file.read_text()) | {"chat_template": template}
            file.write_text(json.dumps(config))
        return load(tmp_path)

    return make


@pytest.fixture
def renderer_with(tokenizer_with):
    def make(template: str) -> tuple[Renderer, TokenizerWrapper]:
        tokenizer = tokenizer_with(template)
        return Renderer(tokenizer, probe_template(tokenizer)), tokenizer

    return make


def answered(renderer: Renderer, tokenizer: TokenizerWrapper, question: str, reply: str) -> list:
    return renderer.render([user(question)], CLOCK) + tokenizer.encode(reply)


@pytest.mark.parametrize("template", ["chatml", LLAMA2_LIKE, WITH_DATE, WITH_TOOLS, NO_SYSTEM])
@pytest.mark.parametrize("closed", [True, False], ids=["closed by the model", "cut"])
def test_appended_turn_equals_the_whole_dialogue_rendered(renderer_with, template, closed):
    renderer, tokenizer = renderer_with(template)
    context = answered(renderer, tokenizer, "One\n\ntwo?", "Three.\n  Four.")
    context += [2] if closed else []
    grown = context + renderer.append(context, [user("And five?")], CLOCK)
    whole = renderer.render(
        [user("One\n\ntwo?"), assistant("Three.\n  Four."), user("And five?")], CLOCK
    )
    assert grown == whole


def test_template_that_writes_bos_gives_one_whatever_the_tokenizer_adds(tokenizer_with, tmp_path):
    tokenizer_with(LLAMA2_LIKE)
    begin_texts_with(tmp_path, "<|endoftext|>")
    tokenizer = load(tmp_path)
    renderer = Renderer(tokenizer, probe_template(tokenizer))
    context = renderer.render([user("Hello")], CLOCK)
    assert (context[0], context.count(0)) == (0, 1)
    context += [*tokenizer.encode("Hi", add_special_tokens=False), 2]
    assert 0 not in renderer.append(context, [user("More")], CLOCK)


def begin_texts_with(folder: Path, mark: str, *ends: str) -> None:
    """Has the tokenizer put marks around every text that is encoded with special tokens."""
    file = str(folder / "tokenizer.json")
    table = Tokenizer.from_file(file)
    table.post_processor = processors.TemplateProcessing(
        single=[mark, "$A", *ends],
        special_tokens=[(text, table.token_to_id(text)) for text in (mark, *ends)],
    )
    table.save(file)


@pytest.mark.parametrize("text", ["seat", "<|im_start|>seat", "<|im_start|>", ""])
@pytest.mark.parametrize("ending", [[], ["<|im_end|>"]], ids=["bos", "bos and eos"])
def test_raw_text_begins_with_one_bos_and_stays_open(tokenizer_with, tmp_path, text, ending):
    tokenizer_with("chatml")
    begin_texts_with(tmp_path, "<|im_start|>", *ending)
    tokenizer = load(tmp_path)
    renderer = Renderer(tokenizer, TemplateProbe(mode="raw"))
    words = tokenizer.encode(text.removeprefix("<|im_start|>"), add_special_tokens=False)
    expected = [1, *words, *([2] if ending and not text else [])]
    assert renderer.encode_text(text, first=True) == expected
    assert renderer.encode_text("seat", first=False)[:1] != [1]


def test_default_system_text_is_not_repeated_by_append(renderer_with):
    renderer, tokenizer = renderer_with("chatml")
    context = [*answered(renderer, tokenizer, "Hello", "Hi"), 2]
    assert tokenizer.decode(context).count(tiny_models.SYSTEM_TEXT) == 1
    added = tokenizer.decode(renderer.append(context, [user("More")], CLOCK))
    assert added == "\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n"


def test_other_end_of_turn_id_is_not_followed_by_a_second_one(renderer_with):
    renderer, tokenizer = renderer_with("chatml")
    tokenizer.eos_token_ids = {0, 2}
    renderer = Renderer(tokenizer, TemplateProbe(mode="exact"))
    context = [*answered(renderer, tokenizer, "Hello", "Hi"), 0]
    assert 2 not in renderer.append(context, [user("More")], CLOCK)[:1]


def test_append_to_nothing_is_a_whole_rendering(renderer_with):
    renderer, _ = renderer_with("chatml")
    assert renderer.append([], [user("Hi")], CLOCK) == renderer.render([user("Hi")], CLOCK)


@pytest.mark.parametrize(
    ("template", "mode", "reason"),
    [
        ("chatml", "exact", ""),
        (LLAMA2_LIKE, "exact", ""),
        ("none", "raw", "no chat template"),
        ("thinking", "render", "<think>"),
        (TRUNCATES, "render", "differs"),
    ],
)
def test_probe_finds_the_mode_of_a_template(tokenizer_with, template, mode, reason):
    probe = probe_template(tokenizer_with(template))
    assert probe.mode == mode
    assert reason in probe.reason


def test_template_that_drops_reasoning_only_is_render(tokenizer_with):
    template = tiny_models.THINKING.replace(
        "assistant\n<think>\n{% endif %}", "assistant\n{% endif %}"
    )
    assert template != tiny_models.THINKING
    probe = probe_template(tokenizer_with(template))
    assert (probe.mode, probe.reason) == (
        "render",
        "the template drops the reasoning of earlier turns",
    )


@pytest.mark.parametrize(
    ("template", "system", "tools"),
    [("chatml", True, False), (NO_SYSTEM, False, False), (WITH_TOOLS, True, True)],
)
def test_probe_finds_what_a_template_takes(tokenizer_with, template, system, tools):
    probe = probe_template(tokenizer_with(template))
    assert (probe.system, probe.tools) == (system, tools)


def test_system_message_that_the_template_refuses_joins_the_first_user_message(renderer_with):
    renderer, tokenizer = renderer_with(NO_SYSTEM)
    ids = renderer.render([Message(role="system", content="x"), user("y")], CLOCK)
    shown = "<|im_start|>user\n<system-reminder>\nx\n</system-reminder>\n\ny<|im_end|>"
    assert tokenizer.decode(ids).startswith(shown)


def test_system_message_is_unsupported_content_where_only_an_older_probe_looked(tokenizer_with):
    renderer = Renderer(tokenizer_with(NO_SYSTEM), TemplateProbe(mode="exact", system=False))
    with pytest.raises(HotseatError, match="no system message") as caught:
        renderer.render([Message(role="system", content="x"), user("y")], CLOCK)
    assert caught.value.code == "unsupported_content"
    assert caught.value.facts["message"] == 0


def test_turns_in_a_row_that_the_template_refuses_become_one(renderer_with):
    renderer, _ = renderer_with(LLAMA2_LIKE)
    assert renderer.render([user("a"), user("b")], CLOCK) == renderer.render(
        [user("a\n\nb")], CLOCK
    )


def test_order_that_the_template_refuses_is_invalid_request(tokenizer_with):
    renderer = Renderer(tokenizer_with(LLAMA2_LIKE), TemplateProbe(mode="exact"))
    with pytest.raises(HotseatError, match="must alternate") as caught:
        renderer.render([user("a"), user("b")], CLOCK)
    assert caught.value.code == "invalid_request"


def test_messages_without_template_are_an_unsupported_feature(renderer_with):
    renderer, _ = renderer_with("none")
    with pytest.raises(HotseatError) as caught:
        renderer.render([user("a")], CLOCK)
    assert caught.value.code == "unsupported_feature"


def test_append_in_render_mode_is_refused_with_the_reason(renderer_with):
    renderer, tokenizer = renderer_with("thinking")
    context = answered(renderer, tokenizer, "Hello", "Hi")
    with pytest.raises(HotseatError, match="whole conversation") as caught:
        renderer.append(context, [user("More")], CLOCK)
    assert caught.value.code == "unsupported_feature"


def test_dates_come_from_the_clock_of_the_session(renderer_with):
    renderer, tokenizer = renderer_with(WITH_DATE)
    text = tokenizer.decode(renderer.render([user("a")], CLOCK))
    assert text.startswith("Today is 14 Nov 2023.")


def test_text_parts_are_joined_and_others_refused(renderer_with):
    renderer, _ = renderer_with("chatml")
    parts = (Part(type="text", text="one "), Part(type="text", text="two"))
    joined = renderer.render([Message(role="user", content=parts)], CLOCK)
    assert joined == renderer.render([user("one two")], CLOCK)
    with pytest.raises(HotseatError) as caught:
        renderer.render([Message(role="user", content=(*parts, Part(type="image")))], CLOCK)
    assert caught.value.code == "unsupported_content"
    assert caught.value.facts == {"message": 0, "part": 2, "type": "image"}


def test_developer_becomes_system_where_the_template_knows_no_developer(renderer_with):
    renderer, _ = renderer_with("chatml")
    developer = renderer.render([Message(role="developer", content="x"), user("y")], CLOCK)
    assert developer == renderer.render([Message(role="system", content="x"), user("y")], CLOCK)


def test_tool_results_are_appended_after_an_open_call(renderer_with):
    renderer, tokenizer = renderer_with(WITH_TOOLS)
    call = ToolCall(id="a", name="tide", arguments='{"place": "Brest"}')
    result = Message(role="tool", content="4.2 m", tool_call_id="a")
    context = answered(renderer, tokenizer, "How high?", "call tide(place=Brest)")
    grown = context + renderer.append(context, [result], CLOCK)
    asked = Message(role="assistant", tool_calls=(call,))
    assert grown == renderer.render([user("How high?"), asked, result], CLOCK)


@pytest.mark.parametrize("arguments", ["{", "[1]"])
def test_tool_arguments_that_are_no_object_are_named_by_path(renderer_with, arguments):
    renderer, _ = renderer_with(WITH_TOOLS)
    call = ToolCall(name="tide", arguments=arguments)
    with pytest.raises(HotseatError, match=r"messages\[1\]\.tool_calls\[0\]\.arguments"):
        renderer.render([user("a"), Message(role="assistant", tool_calls=(call,))], CLOCK)


def test_refused_tool_arguments_are_not_repeated_since_errors_are_logged(renderer_with):
    renderer, _ = renderer_with(WITH_TOOLS)
    call = ToolCall(name="tide", arguments='["the secret"]')
    with pytest.raises(HotseatError) as refused:
        renderer.render([user("a"), Message(role="assistant", tool_calls=(call,))], CLOCK)
    assert "secret" not in refused.value.message


def test_raw_text_continues_exactly_where_it_was_cut(renderer_with):
    renderer, tokenizer = renderer_with("none")
    whole = renderer.encode_text("The river runs", first=True)
    grown = whole + renderer.encode_text(" down the street", first=False)
    assert tokenizer.decode(grown) == "The river runs down the street"
