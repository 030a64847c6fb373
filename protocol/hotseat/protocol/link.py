"""Messages between supervisor and worker. Pure. One struct per kind, epoch on every frame.

Both ends run the same version, so the link is MessagePack by msgspec with tagged structs and may
carry binary. Token ids travel packed (`tokens.pack_tokens`).
"""

import msgspec

from hotseat.protocol.ids import Epoch
from hotseat.protocol.link_orders import (
    QUIET_CHECKPOINT,
    AppendInput,
    CancelWork,
    Checkpoint,
    CountPrompt,
    Drop,
    HoldBlank,
    Input,
    Known,
    Load,
    Prepare,
    Reseat,
    Resume,
    Rewrite,
    Shrink,
    Start,
    Stop,
    Suspend,
    TailRef,
    TextInput,
    TokensInput,
    Unload,
    Warm,
    WholeInput,
)
from hotseat.protocol.link_reports import (
    Beat,
    BlockWritten,
    Broken,
    Checkpointed,
    Counted,
    Diverged,
    Divergence,
    Emitted,
    Failed,
    Finished,
    Loaded,
    LoadProgress,
    Lookup,
    Prefilled,
    Prepared,
    Quarantined,
    Refused,
    Started,
    Stopped,
    Suspended,
    TailWritten,
    Unloaded,
    Warmed,
    WorkerHello,
    WriteFailed,
)

__all__ = [
    "QUIET_CHECKPOINT",
    "AppendInput",
    "Beat",
    "BlockWritten",
    "Broken",
    "CancelWork",
    "Checkpoint",
    "Checkpointed",
    "CountPrompt",
    "Counted",
    "Diverged",
    "Divergence",
    "Drop",
    "Emitted",
    "Failed",
    "Finished",
    "FromWorker",
    "HoldBlank",
    "Input",
    "Known",
    "Load",
    "LoadProgress",
    "Loaded",
    "Lookup",
    "Prefilled",
    "Prepare",
    "Prepared",
    "Quarantined",
    "Refused",
    "Reseat",
    "Resume",
    "Rewrite",
    "Shrink",
    "Start",
    "Started",
    "Stop",
    "Stopped",
    "Suspend",
    "Suspended",
    "TailRef",
    "TailWritten",
    "TextInput",
    "ToWorker",
    "TokensInput",
    "Unload",
    "Unloaded",
    "Warm",
    "Warmed",
    "WholeInput",
    "WorkerHello",
    "WriteFailed",
    "decode_from_worker",
    "decode_to_worker",
    "encode_link",
]

ToWorker = (
    Load
    | Warm
    | Start
    | CountPrompt
    | Suspend
    | Prepare
    | HoldBlank
    | Unload
    | Reseat
    | CancelWork
    | Known
    | Drop
    | Rewrite
    | Checkpoint
    | Shrink
    | Stop
)

FromWorker = (
    WorkerHello
    | LoadProgress
    | Loaded
    | Failed
    | Warmed
    | Lookup
    | Refused
    | Started
    | Diverged
    | Suspended
    | Prepared
    | Counted
    | Unloaded
    | Prefilled
    | Emitted
    | Finished
    | Broken
    | BlockWritten
    | TailWritten
    | WriteFailed
    | Checkpointed
    | Quarantined
    | Beat
    | Stopped
)

_ENCODER = msgspec.msgpack.Encoder()
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode_link(epoch: Epoch, message: ToWorker | FromWorker) -> list[bytes]:
    """Frames `[epoch, body]`."""
    return [str(epoch).encode(), _ENCODER.encode(message)]


def decode_to_worker(frames: list[bytes]) -> tuple[Epoch, ToWorker]:
    """Raises ValueError for anything malformed (both ends are ours: a defect)."""
    epoch, body = frames
    return Epoch(int(epoch)), _TO_WORKER.decode(body)


def decode_from_worker(frames: list[bytes]) -> tuple[Epoch, FromWorker]:
    """Raises ValueError for anything malformed (both ends are ours: a defect)."""
    epoch, body = frames
    return Epoch(int(epoch)), _FROM_WORKER.decode(body)
