"""Keys of the door: the owner's own in a file, those made for others as digests in another.

A key is 24 random bytes, so a plain digest of it cannot be turned back by trying.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.gateway.callers import OWNER, Caller
from hotseat.gateway.secret_file import made_once, written_alone
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MAX_PRIORITY

OWNER_FILE: Final = "http.key"
KEYS_FILE: Final = "http-keys.json"
_KEY_BYTES: Final = 24
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class KeyEntry(Struct, frozen=True, kw_only=True):
    """A key as it is kept; `digest` is SHA-256 in hex."""

    caller: Caller
    digest: str
    created_at: float


class _KeyFile(Struct, frozen=True):
    keys: tuple[KeyEntry, ...] = ()


def owner_key(home: Path) -> str:
    """The key of this home's owner, made at the first start.

    Raises HotseatError (invalid_config) for a file that holds none: whoever brings no key would
    bring the right one.
    """
    path = home / OWNER_FILE
    try:
        key = made_once(path, secrets.token_hex(_KEY_BYTES) + "\n").strip()
    except UnicodeDecodeError:
        key = ""
    if not key:
        text = f"{path} holds no key; remove it, and the next start makes one"
        raise HotseatError("invalid_config", text, path=str(path))
    return key


def read_keys(home: Path) -> tuple[KeyEntry, ...]:
    """Keys made for others. Raises HotseatError (invalid_config) for a file that is none."""
    path = home / KEYS_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_KeyFile).keys
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"{path} cannot be read ({error}); remove it and make the keys anew"
        raise HotseatError("invalid_config", text, path=str(path)) from error


def add_key(home: Path, caller: Caller) -> str:
    """Makes a key; it is shown this once. Raises HotseatError for a name that cannot be."""
    if _NAME.fullmatch(caller.name) is None:
        text = f"key name {caller.name!r}: use up to 32 small letters, digits and hyphens"
        raise HotseatError("invalid_request", text, field="name")
    if caller.priority is not None and abs(caller.priority) > MAX_PRIORITY:
        text = f"priority {caller.priority}: use {-MAX_PRIORITY} to {MAX_PRIORITY}"
        raise HotseatError("invalid_request", text, field="priority")
    key = f"hs-{secrets.token_hex(_KEY_BYTES)}"
    entry = KeyEntry(caller=caller, digest=_digest(key), created_at=round(time.time(), 3))
    with written_alone(home / KEYS_FILE):
        keys = read_keys(home)
        if any(entry.caller.name == caller.name for entry in keys):
            text = f"a key {caller.name!r} exists; `hotseat key revoke {caller.name}` ends it"
            raise HotseatError("invalid_request", text, field="name")
        _write(home, (*keys, entry))
    return key


def revoke_key(home: Path, name: str) -> KeyEntry:
    """Ends a key; what it had under way goes on. Raises HotseatError for one that is not there."""
    with written_alone(home / KEYS_FILE):
        keys = read_keys(home)
        found = next((entry for entry in keys if entry.caller.name == name), None)
        if found is None:
            known = ", ".join(entry.caller.name for entry in keys) or "none"
            text = f"no key {name!r}; there is {known}"
            raise HotseatError("invalid_request", text, field="name")
        _write(home, tuple(entry for entry in keys if entry is not found))
    return found


class KeyRing:
    """Finds who a key belongs to; reads the file again when it changed."""

    def __init__(self, home: Path, owner: str, *, is_open: bool = False) -> None:
        """`is_open`: whoever brings no known key is the owner."""
        self._home = home
        self._owner = owner
        self._is_open = is_open
        self._stamp: tuple[int, int, int] | None = None
        self._callers: dict[str, Caller] = {}

    def find(self, key: str) -> Caller | None:
        """None for a stranger."""
        if hmac.compare_digest(key.encode(), self._owner.encode()):
            return OWNER
        self._look()
        # The digest of a guess tells nothing of the key that it is not.
        found = self._callers.get(_digest(key))
        return OWNER if found is None and self._is_open else found

    def _look(self) -> None:
        try:
            found = (self._home / KEYS_FILE).stat()
        except FileNotFoundError:
            self._stamp, self._callers = None, {}
            return
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp:
            try:
                keys = read_keys(self._home)
            except HotseatError:
                keys = ()  # nobody comes in by a file that cannot be read
            self._stamp = stamp
            self._callers = {entry.digest: entry.caller for entry in keys}


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _write(home: Path, keys: tuple[KeyEntry, ...]) -> None:
    path = home / KEYS_FILE
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(_KeyFile(keys)))
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
