"""What is kept of a response, as its items. Pure."""

from typing import Any

from hotseat.gateway.responses.output import OutputItems, parts_of
from hotseat.protocol.messages import Message


def kept_output(reply: Message) -> list[dict[str, Any]]:
    """Items of a stored reply. Namespaces of calls are not stored: names are the model's own."""
    items = OutputItems({}, None)
    text = reply.content if isinstance(reply.content, str) else ""
    for part in parts_of(reply.reasoning, text, reply.tool_calls):
        items.take(part, [])
    items.close()
    return items.done
