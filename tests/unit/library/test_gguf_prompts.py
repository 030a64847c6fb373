"""Prompts of an imported model are those of transformers with the file's own template."""

import pytest
from jinja2 import TemplateError
from mlx_lm.utils import load_tokenizer
from tests.support.models import chat_templates, tiny_gguf, tiny_models
from tests.support.models.tiny_models import SYSTEM_TEXT
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hotseat.library.importing import import_model

LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": 'Finds "a thing", <b>fast</b> & \u00e9legantly.',
        "parameters": {
            "type": "object",
            "properties": {"q": {"type": "string"}, "n": {"type": "integer"}},
            "required": ["q"],
        },
    },
}
CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "look_up", "arguments": {"q": "the 'tide'", "n": 3, "deep": [1, None]}},
}
SYSTEM = {"role": "system", "content": "Answer in verse.\n\nBe brief."}
USER = {"role": "user", "content": "When is high tide?"}
ANSWER = {"role": "assistant", "content": "At noon."}
ASKED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {
    "role": "tool",
    "name": "look_up",
    "tool_call_id": "call00001",
    "content": '{"tide": "12:04"}',
}
THOUGHT = ANSWER | {"reasoning_content": "The almanac says\nnoon."}
PARTS = {
    "role": "user",
    "content": [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}],
}
CONVERSATIONS = {
    "question": ([USER], []),
    "system text": ([SYSTEM, USER], []),
    "answered": ([USER, ANSWER, {"role": "user", "content": "And low tide?"}], []),
    "tools": ([SYSTEM, USER], [LOOK_UP]),
    "tools without system": ([USER], [LOOK_UP, LOOK_UP]),
    "call": ([USER, ASKED], [LOOK_UP]),
    "result": ([SYSTEM, USER, ASKED, RESULT], [LOOK_UP]),
    "reasoning": ([USER, THOUGHT, USER], []),
    "empty": ([USER | {"content": ""}, ANSWER | {"content": ""}, USER], []),
    "parts": ([SYSTEM, PARTS], []),
    "marks and spaces": ([USER | {"content": "  <|im_end|> x\n\n\t\u65e5\u672c \U0001f642 "}], []),
}
TAKES_PARTS = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content | trim }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": tiny_models.CHATML,
    "thinking": tiny_models.THINKING,
    "agent": tiny_models.AGENT,
    "hermes": chat_templates.HERMES,
    "parts": TAKES_PARTS,
}


@pytest.fixture(scope="module", params=TEMPLATES)
def pair(request, tmp_path_factory):
    """Tokenizers: of the imported file, and transformers' own with what the file was made from."""
    folder = tmp_path_factory.mktemp(request.param)
    template = TEMPLATES[request.param]

    def change(writer):
        del writer.kv_data[0]["tokenizer.chat_template"]
        writer.add_chat_template(template)

    source = tiny_gguf.write_tiny_gguf(folder / "m.gguf", "qwen2", change=change)
    record = import_model(source, folder / "home", "m", lambda _phase, _percent: None)
    original = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny_models._tokenizer_json(512)),
        bos_token=tiny_models.SPECIALS[1],
        eos_token=tiny_models.SPECIALS[0],
        clean_up_tokenization_spaces=False,
    )
    original.chat_template = template
    return load_tokenizer(folder / "home" / "models" / record.name), original


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_prompt_is_the_one_transformers_renders(pair, name):
    imported, original = pair
    messages, tools = CONVERSATIONS[name]
    for prompt in (True, False):
        options = {"tools": tools or None, "add_generation_prompt": prompt}
        assert outcome(imported, messages, options) == outcome(original, messages, options)


def outcome(tokenizer, messages, options):
    """Text and ids, or in which words the template refuses."""
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except TemplateError as error:
        return str(error)
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
    return text, list(ids)


@pytest.mark.parametrize("kind", ["gemma2", "gemma3"])
def test_template_of_a_sentencepiece_file_gets_its_bos_once(tmp_path, kind):
    def add(writer):
        writer.add_chat_template(TAKES_PARTS)

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", kind, change=add)
    record = import_model(source, tmp_path / "home", "m", lambda _phase, _percent: None)
    tokenizer = load_tokenizer(tmp_path / "home" / "models" / record.name)
    ids = tokenizer.apply_chat_template([USER], add_generation_prompt=True)
    assert [ids[0], ids.count(2)] == [2, 1]
    assert tokenizer.decode(ids).startswith(f"{tokenizer.bos_token}<|im_start|>user")


def test_template_for_tools_is_the_one_that_renders_them(tmp_path):
    def add(writer):
        key = "tokenizer.chat_template"
        writer.add_string(f"{key}.tool_use", tiny_models.AGENT)
        writer.add_string(f"{key}.../../escape", "x")

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen2", change=add)
    record = import_model(source, tmp_path / "home", "m", lambda _phase, _percent: None)
    tokenizer = load_tokenizer(tmp_path / "home" / "models" / record.name)
    with_tools = tokenizer.apply_chat_template([USER], tools=[LOOK_UP], tokenize=False)
    assert "look_up" in with_tools
    assert SYSTEM_TEXT in tokenizer.apply_chat_template([USER], tokenize=False)
    folder = tmp_path / "home/models/m"
    assert [file.name for file in folder.rglob("*.jinja")] == [
        "chat_template.jinja",
        "tool_use.jinja",
    ]
    assert not list(tmp_path.rglob("escape*"))
