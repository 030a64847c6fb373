"""How a model that does not fit whole looks to a person: what is in memory, what a token costs."""

from hotseat.cli.terminal.output import size
from hotseat.protocol.residence import StreamedView


def streamed_line(view: StreamedView | None) -> str:
    """`10 of 24 layers in memory, 480.0 MiB read a token, 2.1 tokens/s`; empty if all is there."""
    if view is None:
        return ""
    speed = "" if view.tokens_per_s is None else f", {view.tokens_per_s:.2g} tokens/s"
    return f"{view.words}, {size(view.step_bytes)} read a token at most{speed}"
