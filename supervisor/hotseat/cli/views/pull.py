"""How a repository that could be fetched looks to a person."""

from msgspec import Struct

from hotseat.cli.terminal.output import count, note, print_facts, size


class PullView(Struct, frozen=True, kw_only=True):
    """What fetching would bring; figures of memory are estimates by its configuration."""

    repository: str
    name: str
    """What the model will be called unless another name is given."""
    file: str
    """The GGUF file that was asked for; empty: the folder of MLX weights."""
    revision: str
    files: int
    size_bytes: int
    missing_bytes: int
    """What is not in the hub's cache yet."""
    licence: str
    architecture: str
    quantisation: str
    weights_bytes: int
    fits: bool | None
    """None: the configuration does not tell enough."""
    reason: str
    remedy: str
    max_context_tokens: int | None


def render_pull(view: PullView) -> None:
    """Its size, what is missing of it, and whether it would fit."""
    longest = view.max_context_tokens
    print_facts(
        [
            ("repository", f"{view.repository} at {view.revision[:12]}"),
            ("file", view.file),
            ("architecture", ", ".join(filter(None, (view.architecture, view.quantisation)))),
            ("licence", view.licence),
            ("files", f"{view.files}, {size(view.size_bytes)}"),
            ("to fetch", size(view.missing_bytes)),
            ("fits", {True: "yes", False: "no", None: "not known"}[view.fits]),
            ("context", f"about {count(longest)} tokens beside the weights" if longest else ""),
        ]
    )
    if view.reason:
        note(f"{view.reason}{'; ' if view.remedy else ''}{view.remedy}")
