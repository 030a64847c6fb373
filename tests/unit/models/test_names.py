"""Names as people type them stand for a model only where one alone can be meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.models.rules.names import match_typed

KNOWN = (
    "Qwen3-8B-4bit",
    "Qwen3-14B-4bit",
    "Meta-Llama-3.1-8B-Instruct-4bit",
    "gemma",
    "gemma-3-270m",
    "smol",
    "mistral_7b",
    "mistral_7b-8bit",
)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("qwen3:8b", "Qwen3-8B-4bit"),
        ("mlx-community/Qwen3-8B-4bit", "Qwen3-8B-4bit"),
        ("qwen3-8b-4bit", "Qwen3-8B-4bit"),
        ("llama3.1:8b", "Meta-Llama-3.1-8B-Instruct-4bit"),
        ("gemma:latest", "gemma"),
        ("gemma3:270m", "gemma-3-270m"),
        ("SMOL", "smol"),
        ("mistral:7b", "mistral_7b"),
        ("mistral:7b-8bit", "mistral_7b-8bit"),
        ("qwen3", None),  # two could be meant
        ("qwen3:8", None),  # 8 is not 8b
        ("llama3:8b", None),
        ("smo", None),
        ("smol2", None),
        ("gpt-4", None),
        ("mlx-community/", None),
        ("...", None),
        ("../smol", None),  # a path
        ("/smol", None),
        ("a/b/smol", None),
        ("smol ", None),
    ],
)
def test_typed_name_means_one_model_or_none(asked, meant):
    assert match_typed(asked, KNOWN) == meant


@given(st.text(), st.lists(st.text(), unique=True))
def test_what_is_meant_is_registered(asked, known):
    assert match_typed(asked, known) in (None, *known)


@given(st.from_regex(r"[a-z]{1,8}[0-9]{1,2}(-[0-9]{1,3}b)?", fullmatch=True))
def test_case_marks_and_owner_do_not_matter(name):
    assert match_typed(f"Some-Owner/{name.upper().replace('-', ':')}", [name, "other"]) == name
