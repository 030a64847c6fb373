"""Every number of the wire contract in one place. Must not import anything."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 2

MAX_FRAME_BYTES: Final = 8 * MIB
MAX_FRAMES: Final = 8
MAX_MESSAGE_BYTES: Final = 16 * MIB
MAX_DEPTH: Final = 32
MAX_ITEMS: Final = 65_536
MAX_PLAIN_TOKENS: Final = 32_768
"""A done with more token ids than this carries them packed: each id is an item."""
MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Largest integer that JavaScript clients read exactly."""

MAX_REQUEST_ID_BYTES: Final = 64
TOKEN_BYTES: Final = 16
"""A client token is 128 random bits, written as 32 hex digits."""

BLOCK_TOKENS: Final = 256
"""Unit of KV on disk and of prefill."""

MAX_SESSION_NAME: Final = 128
MAX_STOP_STRINGS: Final = 16
MAX_LOGPROBS: Final = 20
MAX_FORM_TOKENS: Final = 16_384
"""Tokens of a constrained answer, reasoning aside, unless its request says `max_tokens`."""
MAX_PRIORITY: Final = 10
"""Priorities reach from minus this to this; 0 is what a request has that names none."""

PING_S: Final = 1.0
MISSED_PINGS: Final = 3
PROGRESS_S: Final = 0.5
WELCOME_S: Final = 2.0
BEAT_S: Final = 0.2
"""Between two beats of a worker that has something to do, or was just spoken to."""
REST_BEAT_S: Final = 2.0
"""Between two beats of a worker at rest, a standby among them."""
SLOW_CONSUMER_BYTES: Final = MIB
DEFAULT_CREDIT_BYTES: Final = 256 * KIB
