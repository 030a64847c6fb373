"""Builds tokenizer.json out of a GGUF file's vocabulary. Must not know weights.

Two families: byte-level BPE ("gpt2") with its merges, and sentencepiece BPE ("llama"), whose merges
are derived from the scores. How byte-level texts are split is transformers' table; a kind that it
does not have is refused, because it would be split in another way than the model has learnt. The
result loads as it stands, without conversion at load time.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from hotseat.library.durable import write_durably
from hotseat.library.gguf.file import GgufFile, Value
from hotseat.protocol.model_files import NAMED_TEMPLATES, TEMPLATE_FILE

_CONTROL: Final = 3
_USER_DEFINED: Final = 4
_NORMAL: Final = 1
_SPACE: Final = "\u2581"
_END_OF_TURN: Final = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|eom_id|>")
"""Control tokens that end a turn; they count as ends where the chat template writes them."""
_HARMONY_ENDS: Final = ("<|return|>", "<|call|>")
"""Ends of GPT-OSS, whose `<|end|>` only ends one of the messages of a turn."""
_TEMPLATE: Final = "tokenizer.chat_template"
_NAMED_TEMPLATE: Final = re.compile(r"tokenizer\.chat_template\.([A-Za-z0-9_-]{1,64})")
_PLAIN: Final = ("gpt-2", "default")
_DIGITS: Final = ("smollm", "starcoder", "refact", "command-r")
PRE_TOKENIZERS: Final = (*_PLAIN, *_DIGITS, *sorted(GGUF_PRE_TOKENIZER_SPLITS))
_PAIRS_FIRST: Final = ("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "qwen35")
"""Vocabularies that join pairs even if the whole word is a token; the others take it whole."""
_STARTED: Final = ("llama3", "llama-v3", "llama-bpe", "smaug-bpe", "tekken", "pixtral")
"""Vocabularies whose texts begin with bos where the file does not say."""


_Item = TypeVar("_Item", str, int, float)


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """What GGUF metadata say about the tokenizer."""

    family: str
    pre: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    special_ids: Mapping[str, int]
    """bos, eos, eot, unknown, padding: those that the file names."""
    add_bos: bool
    add_eos: bool
    add_space: bool
    template: str
    named_templates: Mapping[str, str]
    """Templates for a purpose, such as `tool_use`."""


class UnsupportedTokenizer(Exception):  # noqa: N818 - the text is a finding about the file
    """The tokenizer is of a kind that cannot be built; the text says which."""


def read_vocabulary(gguf: GgufFile) -> Vocabulary:
    """Raises `UnsupportedTokenizer` for families and pre-tokenizers that are not known here."""
    metadata = gguf.metadata
    family = str(metadata.get("tokenizer.ggml.model", "none"))
    pre = str(metadata.get("tokenizer.ggml.pre", "default"))
    if family not in ("gpt2", "llama"):
        raise UnsupportedTokenizer(f"tokenizer {family!r}; supported are gpt2 and llama")
    if family == "gpt2" and pre not in PRE_TOKENIZERS:
        raise UnsupportedTokenizer(
            f"pre-tokenizer {pre!r}; supported are {', '.join(PRE_TOKENIZERS)}"
        )
    rows = _embedded(gguf)
    tokens = _all_of(str, metadata, "tokens")[:rows]
    kinds = _all_of(int, metadata, "token_type")[:rows]
    scores = _all_of(float, metadata, "scores")[:rows]
    if not tokens or (family == "llama" and len(scores) != len(tokens)):
        raise UnsupportedTokenizer("its vocabulary or its scores are missing")
    names = ("bos", "eos", "eot", "unknown", "padding")
    keys = {name: metadata.get(f"tokenizer.ggml.{name}_token_id") for name in names}
    bos_default = family == "llama" or pre in _STARTED
    return Vocabulary(
        family=family,
        pre=pre,
        tokens=tokens,
        kinds=kinds if len(kinds) == len(tokens) else (_NORMAL,) * len(tokens),
        scores=scores,
        merges=_all_of(str, metadata, "merges"),
        special_ids={
            name: value
            for name, value in keys.items()
            if isinstance(value, int) and 0 <= value < len(tokens)
        },
        add_bos=bool(metadata.get("tokenizer.ggml.add_bos_token", bos_default)),
        add_eos=bool(metadata.get("tokenizer.ggml.add_eos_token", False)),
        add_space=bool(metadata.get("tokenizer.ggml.add_space_prefix", family == "llama")),
        template=str(metadata.get(_TEMPLATE, "")),
        named_templates={
            name[1]: str(text)
            for key, text in metadata.items()
            if (name := _NAMED_TEMPLATE.fullmatch(key))
        },
    )


def _embedded(gguf: GgufFile) -> int | None:
    """Tokens that the model has a row for: marks of images may come behind them."""
    embedding = gguf.tensors.get("token_embd.weight")
    return None if embedding is None else embedding.shape[0]


def end_token_ids(vocabulary: Vocabulary, stated: Collection[str] = ()) -> tuple[int, ...]:
    """eos, eot, `stated` ones, and the control tokens by which the chat template ends a turn."""
    named = vocabulary.special_ids
    harmony = _HARMONY_ENDS[0] in vocabulary.tokens
    names = ("eos",) if harmony else ("eos", "eot")
    ends = {named[name] for name in names if name in named}
    for token, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        if kind not in (_CONTROL, _USER_DEFINED):
            continue
        by_template = text in _END_OF_TURN and text in vocabulary.template and not harmony
        if by_template or text in stated or (harmony and text in _HARMONY_ENDS):
            ends.add(token)
    return tuple(sorted(ends))


def write_tokenizer(folder: Path, vocabulary: Vocabulary, context_tokens: int) -> None:
    """tokenizer.json, tokenizer_config.json and the chat template."""
    table = json.loads(build_tokenizer(vocabulary).to_str())
    # Merges as "left right" instead of pairs: every reader parses 262k entries in half the time.
    table["model"]["merges"] = [" ".join(pair) for pair in table["model"]["merges"]]
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    write_durably(folder / "tokenizer.json", text.encode())
    config: dict[str, Any] = {
        # The plain fast class takes tokenizer.json as it stands; model-specific classes rebuild it.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_tokens,
    }
    keys = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    for name, key in keys.items():
        if name in vocabulary.special_ids:
            config[key] = vocabulary.tokens[vocabulary.special_ids[name]]
    if vocabulary.template:
        write_durably(folder / TEMPLATE_FILE, vocabulary.template.encode())
    for name, template in vocabulary.named_templates.items():
        (folder / NAMED_TEMPLATES).mkdir(exist_ok=True)
        write_durably(folder / NAMED_TEMPLATES / f"{name}.jinja", template.encode())
    write_durably(folder / "tokenizer_config.json", json.dumps(config, indent=1).encode())


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """A `tokenizers` tokenizer that gives the ids the file means."""
    tokenizer = _build_spm(vocabulary) if vocabulary.family == "llama" else _build_bpe(vocabulary)
    tokenizer.add_tokens(_added_tokens(vocabulary))
    _add_ends(tokenizer, vocabulary)
    return tokenizer


def _build_bpe(vocabulary: Vocabulary) -> Tokenizer:
    table = {token: number for number, token in enumerate(vocabulary.tokens)}
    # A space in a merge separates its halves; spaces inside tokens are mapped to another letter.
    merges = [(left, right) for left, _, right in (m.partition(" ") for m in vocabulary.merges)]
    regex = GGUF_PRE_TOKENIZER_SPLITS.get(vocabulary.pre)
    whole_first = regex is not None and vocabulary.pre not in _PAIRS_FIRST
    tokenizer = Tokenizer(models.BPE(vocab=table, merges=merges, ignore_merges=whole_first))
    byte_level = pre_tokenizers.ByteLevel
    steps: list[Any]
    if regex is not None:
        split = pre_tokenizers.Split(Regex(regex), behavior="isolated")
        steps = [split, byte_level(add_prefix_space=False, use_regex=False)]
    else:
        digits = [pre_tokenizers.Digits(individual_digits=True)]
        steps = [
            *(digits if vocabulary.pre in _DIGITS else []),
            byte_level(add_prefix_space=vocabulary.add_space, use_regex=True),
        ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _build_spm(vocabulary: Vocabulary) -> Tokenizer:
    table = {token: number for number, token in enumerate(vocabulary.tokens)}
    unknown = vocabulary.special_ids.get("unknown")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=table,
            merges=merges_from_scores(vocabulary.tokens, vocabulary.scores, vocabulary.kinds),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", _SPACE)
    steps: list[Any] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if vocabulary.add_space:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces])
        steps.append(decoders.Strip(content=" ", left=1, right=0))
    else:
        tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def merges_from_scores(
    tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int]
) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, best score of the third first.

    Sentencepiece joins the neighbours whose joined piece scores highest; a merge list ordered by
    that score does the same.
    """
    score_of = {
        token: score
        for token, score, kind in zip(tokens, scores, kinds, strict=True)
        if kind == _NORMAL
    }
    ranked = sorted((token for token in score_of if len(token) > 1), key=lambda t: -score_of[t])
    merges = []
    for token in ranked:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in score_of and right in score_of:
                merges.append((left, right))
    return merges


def _added_tokens(vocabulary: Vocabulary) -> list[AddedToken]:
    """Control tokens, and tokens that the file wants found in text before anything else."""
    return [
        AddedToken(text, special=kind == _CONTROL, normalized=False)
        for text, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
        if kind in (_CONTROL, _USER_DEFINED)
    ]


def _add_ends(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Puts bos and eos around a text that is encoded with special tokens."""
    named = vocabulary.special_ids
    bos = vocabulary.tokens[named["bos"]] if vocabulary.add_bos and "bos" in named else None
    eos = vocabulary.tokens[named["eos"]] if vocabulary.add_eos and "eos" in named else None
    if bos is None and eos is None:
        return
    single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
    ids = [(bos, named.get("bos")), (eos, named.get("eos"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=[*single, *(f"{piece}:1" if piece != "$A" else "$B:1" for piece in single)],
        special_tokens=[(text, number) for text, number in ids if text],
    )


def _all_of(kind: type[_Item], metadata: Mapping[str, Value], name: str) -> tuple[_Item, ...]:
    """A list of one type; empty if the file has none. Raises `UnsupportedTokenizer` for others."""
    found = metadata.get(f"tokenizer.ggml.{name}", [])
    try:
        return msgspec.convert(found, tuple[kind, ...])  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise UnsupportedTokenizer(f"tokenizer.ggml.{name} is no list of its type") from error
