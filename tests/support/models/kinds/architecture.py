"""One architecture: how a tiny random model of it is configured, made and spoken to.

mlx-lm takes of a configuration what its code of the kind knows, so that one table of the usual
fields, made small, serves most of them. The tokenizer is shared; the template writes calls in the
format that the family's own does.
"""

import json
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from msgspec import Struct

from tests.support.models import call_templates, tiny_models
from tests.support.models.kinds.fields import CONTEXT, USUAL
from tests.support.models.reshaped import edit_json
from tests.support.models.tiny_models import CALL_MARKS, SPECIALS, tiny_weights, write_tokenizer

_NO_TOOLS: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
_OPENED: Final = "assistant{% if enable_thinking %}\n<think>\n{% endif %}{% endif %}"
_TIED_SCALE: Final = 0.05
_HEADS: Final = (".lm_head.weight", ".embed_out.weight")
_EMBEDDINGS: Final = ("embed_tokens.weight", "embeddings.weight", "wte.weight")
_MARKS: Final = {
    "pythonic": "{# <|tool_call_start|> #}",
    "phi": "{# <|tool_call|> <|/tool_call|> #}",
    "granite": "{# <|tool_call|> #}",
    "llama": "{# <|python_tag|> #}",
    "harmony": "{# <|start|> <|channel|> <|message|> #}",
}
"""Of templates that show no marks of calls: that by which their format is known."""
_TOKENS: Final = {
    "harmony": ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"),
}
"""Marks that have to be tokens of their own."""


class Architecture(Struct, frozen=True, kw_only=True):
    """A kind of mlx-lm, and the models that people know it by.

    `fields` come over the usual ones of config.json; `nested` puts all into `text_config`.
    `calls`: the format of calls of the family's templates; empty: they know no tools.
    """

    kind: str
    models: str
    fields: dict[str, Any] = {}
    dropped: tuple[str, ...] = ()
    nested: str = ""
    """`model_type` inside text_config."""
    calls: str = ""
    reasons: bool = False
    """Some of its models write their reasoning between marks."""

    def config(self) -> dict[str, Any]:
        """config.json of a tiny one."""
        flat = {k: v for k, v in (USUAL | self.fields).items() if k not in self.dropped}
        if not self.nested:
            return flat | {"model_type": self.kind}
        text = flat | {"model_type": self.nested}
        outer = {"model_type": self.kind, "text_config": text, "vocab_size": 512}
        return outer | {"eos_token_id": 2, "tie_word_embeddings": flat["tie_word_embeddings"]}

    def template(self) -> str:
        """A chat template with the family's way to write calls and to open reasoning."""
        made = call_templates.template_of(self.calls) if self.calls else _NO_TOOLS
        if self.reasons and self.calls != "harmony":
            made = made.replace("assistant{% endif %}", _OPENED)
        return _MARKS.get(self.calls, "") + made

    def make(self, folder: Path) -> Path:
        """Writes a random model of this kind; the folder. The same each time."""
        folder.mkdir(parents=True)
        config = self.config()
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        weights = _without_ends(_centred(tiny_weights(config)))
        mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
        write_tokenizer(folder, context=CONTEXT)
        marks = _TOKENS.get(self.calls, CALL_MARKS)
        (folder / "tokenizer.json").write_text(tiny_models._tokenizer_json(512, marks))
        edit_json(folder / "tokenizer_config.json", chat_template=self.template())
        return folder


def _centred(weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """Norms draw their shifts around 1 as well, under which all else would be lost."""
    return {k: v - 1.0 if k.endswith("norm.bias") else v for k, v in weights.items()}


def _without_ends(weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """The same, but that no mark is drawn before the answer is full."""
    heads = [name for name in weights if f".{name}".endswith(_HEADS) or name == "output.weight"]
    is_tied = not heads
    heads = heads or [name for name in weights if name.endswith(_EMBEDDINGS)]
    for name in heads:
        kept = mx.arange(weights[name].shape[0])[:, None] >= len(SPECIALS)
        # A head that is the embedding would say again what it just read.
        weights[name] = weights[name] * kept * (_TIED_SCALE if is_tied else 1.0)
    return weights
