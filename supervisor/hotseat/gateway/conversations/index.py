"""Which session holds which history, as far as this process remembers. Pure: time is an argument.

A memory only: what is not in it is looked for at the daemon, or computed again.
"""

from typing import Final

from msgspec import Struct

MOST: Final = 4096
"""Places; each is some 300 bytes."""
AGE_S: Final = 7 * 24 * 3600.0


class Place(Struct, frozen=True, kw_only=True):
    """A session at a turn. `model` is the registered name, whatever it was asked by.

    `request`: the one that made the turn, if another turn of that number would not do.
    """

    model: str
    session: str
    turn: int
    request: str = ""


class PlaceIndex:
    """Digest of a history to the place that holds it; bounded in number and age."""

    def __init__(self, most: int = MOST, age_s: float = AGE_S) -> None:
        self._most = most
        self._age_s = age_s
        self._places: dict[bytes, tuple[Place, float]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def put(self, digest: bytes, place: Place, now: float) -> None:
        """The newest place of a history counts; the one used longest ago goes."""
        self._places.pop(digest, None)
        self._places[digest] = place, now
        while len(self._places) > self._most:
            del self._places[next(iter(self._places))]

    def get(self, digest: bytes, now: float) -> Place | None:
        """The place, which counts as used now."""
        found = self._places.pop(digest, None)
        if found is None or now - found[1] > self._age_s:
            return None
        self._places[digest] = found[0], now
        return found[0]

    def forget_behind(self, place: Place) -> None:
        """Its session ends there: turns that came behind it were taken back."""
        gone = [
            digest
            for digest, (held, _) in self._places.items()
            if held.turn > place.turn and held.session == place.session
        ]
        for digest in gone:
            del self._places[digest]
