"""What is stored of a session: its messages, and how they were framed. Pure."""

import msgspec
from msgspec import Struct

from hotseat.protocol.messages import Message
from hotseat.supervisor.conversation.framing import Framing


class History(Struct, frozen=True, kw_only=True):
    """Messages of a session as stored. `raw`: text continuation, no chat template involved."""

    raw: bool = False
    messages: tuple[Message, ...] = ()
    framing: Framing = Framing()


class Stored(Struct, frozen=True, kw_only=True):
    """What the catalogue knows of a session, as far as intake needs it."""

    turn: int
    context: bytes
    """Packed token ids."""
    hint: bytes
    history: History
    same_tokenizer: bool = True
    """False: the model was imported again with another tokenizer or template."""
    stale: bool = False
    """True: the context is not that of the history, which has to be rendered."""

    @property
    def is_in_step(self) -> bool:
        """True when new ids can follow the context."""
        return self.same_tokenizer and not self.stale


def encode_history(history: History) -> bytes:
    """For the catalogue."""
    return msgspec.json.encode(history)


def decode_history(data: bytes) -> History:
    """From the catalogue; empty data is an empty history."""
    return msgspec.json.decode(data, type=History) if data else History()
