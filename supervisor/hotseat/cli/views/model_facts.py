"""How one registered model looks to a person, whole, verified or about to go."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import asdict

from hotseat.cli.terminal.output import count, note, print_facts, print_table, size
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import ModelSource, TagParts, TemplateProbe
from hotseat.protocol.process_lines import CheckedFile
from hotseat.protocol.tags import DIGEST_BYTES

_SHORT = 12


class ModelFacts(Struct, frozen=True, kw_only=True):
    """Everything a record says of a model, and what this home keeps of it."""

    name: str
    state: str
    reason: str
    architecture: str
    quantisation: str
    parameters: int
    weights_bytes: int
    left_on_disk: tuple[str, ...]
    """What its files have weights for and nobody loads."""
    context_tokens: int
    kv_bytes_per_token: int
    tag: str
    tag_parts: TagParts
    """Digests that make up the tag: what changes them makes stored contexts cold."""
    template: TemplateProbe
    eos_token_ids: tuple[int, ...]
    sampling: Sampling
    path: str
    is_copy: bool
    """True for files that hotseat made; others belong to whoever put them there."""
    used_by: str
    """The program whose folder it lies in; empty where none is known."""
    also_registered_as: tuple[str, ...]
    source: ModelSource
    adapter: str
    sessions: int
    kv_bytes: int


class Removal(Struct, frozen=True, kw_only=True):
    """What removing a model does."""

    name: str
    frees_bytes: int
    """Of the copy that hotseat made; 0 for a folder that stays."""
    stays: str
    """What is not touched: the folder in place, or the source of the copy."""
    sessions: int
    kv_bytes: int
    shared_with: tuple[str, ...]
    """Models that can use the same contexts on disk."""


def render_facts(facts: ModelFacts) -> None:
    """Identity, manners, place and what is stored, a line each."""
    template, parts = facts.template, asdict(facts.tag_parts)
    identity = ", ".join(f"{name} {_shown(digest)}" for name, digest in parts.items() if digest)
    sampling = asdict(facts.sampling).items()
    drawn = ", ".join(f"{name} {value}" for name, value in sampling if value not in (None, ()))
    print_facts(
        [
            ("name", facts.name),
            ("also called", ", ".join(facts.also_registered_as)),
            ("state", facts.state),
            ("architecture", f"{facts.architecture}, {facts.quantisation}"),
            ("parameters", count(facts.parameters)),
            ("weights", size(facts.weights_bytes)),
            ("not loaded", ", ".join(facts.left_on_disk)),
            ("context", f"{count(facts.context_tokens)} tokens"),
            ("KV per token", size(facts.kv_bytes_per_token)),
            ("tag", facts.tag),
            ("identity", identity),
            ("append", template.mode + (f": {template.reason}" if template.reason else "")),
            ("template", _template(template)),
            ("ends with", ", ".join(map(str, facts.eos_token_ids))),
            ("sampling", drawn),
            ("folder", facts.path),
            ("belongs to", "hotseat, which made it" if facts.is_copy else facts.used_by),
            ("made from", facts.source.path if facts.source.path != facts.path else ""),
            ("licence", facts.source.licence),
            ("adapter", facts.adapter),
            ("sessions", count(facts.sessions)),
            ("KV on disk", size(facts.kv_bytes)),
        ]
    )
    if facts.reason:
        note(f"{facts.name}: {facts.reason}")


def render_checked(name: str, files: Sequence[CheckedFile]) -> None:
    """Files that are not as they were, or that all are."""
    wrong = [file for file in files if file.state != "sound"]
    if not wrong:
        print(f"{name}: {len(files)} files are as they were registered")
        return
    rows = [(file.name, file.state, file.reason) for file in wrong]
    print_table(("FILE", "STATE", ""), rows)


def render_removal(removal: Removal) -> None:
    """What goes, what cannot be reached afterwards, and what stays."""
    kv, freed = size(removal.kv_bytes), size(removal.frees_bytes)
    shared = ", ".join(removal.shared_with)
    print_facts(
        [
            ("remove", removal.name),
            (
                "goes",
                f"the copy that hotseat made, {freed}" if removal.frees_bytes else "",
            ),
            ("stays", removal.stays),
            (
                "unreachable",
                f"{count(removal.sessions)} sessions, until it is registered again"
                if removal.sessions
                else "",
            ),
            ("contexts", _contexts(kv, shared) if removal.kv_bytes else ""),
        ]
    )


def _shown(digest: str) -> str:
    """The beginning of a digest; other identities are words."""
    return digest[:_SHORT] if len(digest) == 2 * DIGEST_BYTES else digest


def _contexts(kv: str, shared: str) -> str:
    if shared:
        return f"{kv} on disk stay in use by {shared}"
    return f"{kv} on disk become cold and are collected first; `hotseat kv gc` does it now"


def _template(template: TemplateProbe) -> str:
    words = [
        "system messages" if template.system else "no system messages",
        f"tools ({template.tool_parser or 'shown'})" if template.tools else "no tools",
        "reasoning" if template.thinking else "",
        f"rewrites {', '.join(template.folds).replace('_', ' ')}" if template.folds else "",
    ]
    return ", ".join(word for word in words if word) if template.mode != "raw" else ""
