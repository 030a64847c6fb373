"""What the machine's going down says of a model that was seated then, and of wiring. Pure."""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

BOOTS_TO_BAR: Final = 2


class BootSeat(Struct, frozen=True, kw_only=True):
    """Which model had the seat, or was about to, in which boot; empty when nobody had."""

    model: str = ""
    boot: str = ""


class Unclean(Struct, frozen=True, kw_only=True):
    """Boots in a row before which the machine went down with `model` seated."""

    model: str = ""
    count: int = 0


def seen_at_start(seated: BootSeat, known: Unclean, boot: str) -> Unclean:
    """What the daemon knows when it starts in `boot`.

    A daemon that was killed and starts again in the same boot tells nothing about the machine.
    """
    if not seated.model or not boot or seated.boot == boot:
        return known
    count = known.count + 1 if known.model == seated.model else 1
    return Unclean(model=seated.model, count=count)


def bars(unclean: Unclean) -> str | None:
    """The model that waits for a person, if there is one."""
    return unclean.model if unclean.count >= BOOTS_TO_BAR else None


class Panics(Struct, frozen=True, kw_only=True):
    """Reports of kernel panics that were looked at, and the one that tells of wired buffers."""

    seen: tuple[str, ...] = ()
    blamed: str = ""


def unread_reports(known: Panics | None, present: Collection[str]) -> list[str]:
    """Names of reports to be read. At the first look none: they are older than our wiring."""
    return [] if known is None else sorted(set(present) - set(known.seen))


def after_reports(
    known: Panics | None, present: Collection[str], read: Mapping[str, str]
) -> Panics:
    """What is known once those of `read` were, by name; one that could not be read is no news."""
    if known is None:
        return Panics(seen=tuple(sorted(present)))
    seen = (set(known.seen) & set(present)) | set(read)
    telling = [name for name in sorted(read) if _tells_of_wiring(read[name])]
    blamed = known.blamed or next(iter(telling), "")
    return Panics(seen=tuple(sorted(seen)), blamed=blamed)


def _tells_of_wiring(report: str) -> bool:
    text = report.lower()
    return "iogpu" in text and "python" in text
