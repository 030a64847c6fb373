"""Where a prompt that was rendered anew leaves what its session had in KV. Pure but for decoding.

Templates that drop the reasoning of earlier turns do that at each turn, and so do clients that
send a conversation whose replies they tokenise anew.
"""

from typing import Any, Final

from hotseat.protocol.link_reports import Divergence

SHOWN_TOKENS: Final = 8


def find_divergence(
    tokenizer: Any, context: list[int], prompt: list[int], agree: int
) -> Divergence | None:
    """None if the prompt continues the context; `agree` is how many leading tokens they share."""
    if agree >= len(context):
        return None
    return Divergence(
        position=agree,
        lost_tokens=len(context) - agree,
        held=tokenizer.decode(context[agree : agree + SHOWN_TOKENS]),
        rendered=tokenizer.decode(prompt[agree : agree + SHOWN_TOKENS]),
    )
