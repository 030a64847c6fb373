"""What is given to clients and taken back from them, told from what others make up.

Its key lies in the home and opens no door: it must not be that of the door, which people change.
"""

import binascii
import hashlib
import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Final

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
    """The seal of this home, made at its first use; readable by its owner only."""
    path = home / KEY_FILE
    try:
        return Seal(_read(path))
    except FileNotFoundError:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(_KEY_BYTES)
    # Under a name of its own first: another process must never read half a key.
    draft = path.with_name(f".{KEY_FILE}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.hex())
    try:
        os.link(draft, path)
    except FileExistsError:
        return Seal(_read(path))
    finally:
        draft.unlink()
    return Seal(key)


def _read(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text())
    except ValueError as error:
        raise HotseatError(
            "invalid_config",
            f"{path} holds no key; remove it, and responses made before cannot be continued",
            path=str(path),
        ) from error
