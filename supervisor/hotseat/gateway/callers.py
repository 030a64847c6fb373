"""Who asks, and what they may. Pure.

The owner of the home is the caller without a name and may do everything. Everybody else came with
a key that the owner made: what they keep lies under names of their own.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from starlette.types import Scope

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import ModelView

SCOPE_KEY: Final = "hotseat.caller"
KEY_MARK: Final = "key:"


def owned(owner: str, session: str) -> str:
    """The name in the daemon of what this owner calls `session`: others have names of their own."""
    return f"{KEY_MARK}{owner}:{session}" if owner else session


class Caller(Struct, frozen=True, kw_only=True):
    """`models` empty: all. `priority` None: the daemon's own. `max_waiting` None: no bound."""

    name: str = ""
    models: tuple[str, ...] = ()
    priority: int | None = None
    may_swap: bool = True
    max_waiting: int | None = None

    @property
    def is_owner(self) -> bool:
        """Of the home, who may do everything."""
        return not self.name

    def session(self, name: str) -> str:
        """The name in the daemon of what this caller calls `name`."""
        return owned(self.name, name)

    def own_name(self, session: str) -> str | None:
        """What this caller calls a session of the daemon; None for those of others."""
        if self.is_owner:
            return session
        prefix = owned(self.name, "")
        return session.removeprefix(prefix) if session.startswith(prefix) else None

    def label(self, agent: str) -> str:
        """An agent's label in queue, events and causes: two people's agents are not one."""
        return agent if self.is_owner else f"{self.name}:{agent}"

    def may_use(self, model: str) -> bool:
        """Whether this model may be asked."""
        return not self.models or model in self.models

    def visible(self, views: Sequence[ModelView]) -> list[ModelView]:
        """The models that exist for this caller. Where they lie is the owner's business."""
        return [
            replace(
                view,
                aliases=tuple(name for name in view.aliases if self.may_use(name)),
                path=view.path if self.is_owner else "",
            )
            for view in views
            if self.may_use(view.name)
        ]

    def options(self) -> dict[str, Any]:
        """Keywords of `generate` that the key decides."""
        options: dict[str, Any] = {}
        if self.priority is not None:
            options["priority"] = self.priority
        if not self.may_swap:
            options["swap"] = "wait"
        return options


OWNER: Final = Caller()


def caller_of(scope: Scope) -> Caller:
    """Who asks, as the door found."""
    caller = scope[SCOPE_KEY]
    assert isinstance(caller, Caller)  # noqa: S101 - nobody passes the door without
    return caller


class Turnstile:
    """How many requests of each key are without output yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}

    def enter(self, caller: Caller) -> None:
        """Counts one more. Raises HotseatError (queue_full) beyond what the key allows."""
        waiting = self._waiting.get(caller.name, 0)
        if caller.max_waiting is not None and waiting >= caller.max_waiting:
            raise HotseatError(
                "queue_full",
                f"{waiting} requests of key {caller.name!r} wait already, which is its limit; "
                "wait for one of them",
                limit=caller.max_waiting,
                retry_after_s=1.0,
            )
        self._waiting[caller.name] = waiting + 1

    def leave(self, caller: Caller) -> None:
        """One of them got output, or ended."""
        left = self._waiting[caller.name] - 1
        if left:
            self._waiting[caller.name] = left
        else:
            del self._waiting[caller.name]
