"""What is given to clients and taken back from them, told from what others make up.

Its key lies in the home and opens no door: it must not be that of the door, which people change.
"""

import binascii
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Final

from hotseat.gateway.secret_file import made_once
from hotseat.protocol.errors import HotseatError

KEY_FILE: Final = "http-seal.key"
_KEY_BYTES: Final = 32
_MAC_BYTES: Final = 12


class Seal:
    """Signs bytes. They can be read by anybody and made by nobody else."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def close(self, purpose: str, data: bytes) -> str:
        """Bytes as text that is safe in a path. What was closed for one purpose opens for it."""
        return urlsafe_b64encode(self._mac(purpose, data) + data).decode().rstrip("=")

    def open(self, purpose: str, text: str) -> bytes | None:
        """The bytes; None for what was not closed here for this purpose."""
        try:
            both = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except (UnicodeEncodeError, binascii.Error):
            return None
        mac, data = both[:_MAC_BYTES], both[_MAC_BYTES:]
        return data if hmac.compare_digest(mac, self._mac(purpose, data)) else None

    def _mac(self, purpose: str, data: bytes) -> bytes:
        own = hmac.new(self._key, purpose.encode() + b"\0" + data, hashlib.sha256)
        return own.digest()[:_MAC_BYTES]


def seal_of(home: Path) -> Seal:
    """The seal of this home, made at its first use.

    Raises HotseatError (invalid_config) for a file that holds none: with half a key anybody could
    make up what was closed.
    """
    path = home / KEY_FILE
    try:
        key = bytes.fromhex(made_once(path, secrets.token_hex(_KEY_BYTES)))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise HotseatError(
            "invalid_config",
            f"{path} holds no key; remove it, and responses made before cannot be continued",
            path=str(path),
        )
    return Seal(key)
