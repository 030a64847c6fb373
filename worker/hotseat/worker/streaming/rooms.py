"""Rooms: memory that one owner after the other is read into, ahead of its turn.

A room is free, being read, or held. Only `take` makes it held, only `give`, after everything that
used it was computed, makes it free again: read into earlier, a layer computes with the weights of
another one, without any error. Knows neither files nor mlx.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar

Job = TypeVar("Job")


class Rooms(Generic[Job]):
    """Reads ahead along `order`, again and again, while a room is free."""

    def __init__(
        self,
        count: int,
        order: Sequence[int],
        begin: Callable[[int, int], Job],
        finish: Callable[[Job], None],
    ) -> None:
        """`begin(owner, room)` starts reading, `finish` waits for it and may raise."""
        if count < 1 or not order or len(set(order)) != len(order):
            raise ValueError(f"{count} rooms for {list(order)}")
        self._order = list(order)
        self._begin, self._finish = begin, finish
        self._owners: list[int | None] = [None] * count
        self._states: list[Literal["free", "reading", "held"]] = ["free"] * count
        self._jobs: dict[int, Job] = {}
        self._following = 0

    def state(self, room: int) -> tuple[str, int | None]:
        """Of a room, and whose it is."""
        return self._states[room], self._owners[room]

    def read_ahead(self) -> None:
        """Starts reading into every free room, in the order of need."""
        for room, state in enumerate(self._states):
            if state != "free":
                continue
            owner = self._order[self._following % len(self._order)]
            if owner in self._owners:
                return  # all that can be needed is there
            self._start(owner, room)

    def take(self, owner: int) -> int:
        """The room with what the owner needs, held until `give`. Raises what reading does.

        An owner out of turn, as after a step that broke off, begins the order anew with it.
        """
        room = self._room_of(owner)
        if room is None:
            self._drop()
            self._following = self._order.index(owner)
            free = [number for number, state in enumerate(self._states) if state == "free"]
            if not free:
                raise RuntimeError(f"every room is held: {self._owners}")
            room = free[0]
            self._start(owner, room)
        if self._states[room] == "held":
            raise RuntimeError(f"{owner} holds its room already")
        job = self._jobs.pop(room)
        try:
            self._finish(job)
        except BaseException:
            self._free(room)
            raise
        self._states[room] = "held"
        self.read_ahead()
        return room

    def give(self, owner: int) -> None:
        """The owner's room is free again, all that used it having been computed."""
        room = self._room_of(owner)
        if room is None or self._states[room] != "held":
            raise RuntimeError(f"{owner} holds no room")
        self._free(room)
        self.read_ahead()

    def close(self) -> None:
        """Waits for what is being read; nothing is read any more."""
        self._drop()

    def _start(self, owner: int, room: int) -> None:
        self._jobs[room] = self._begin(owner, room)
        self._owners[room], self._states[room] = owner, "reading"
        self._following += 1

    def _drop(self) -> None:
        """What was read ahead is not needed now; its memory is not touched before it ended."""
        for room, job in list(self._jobs.items()):
            with contextlib.suppress(Exception):
                self._finish(job)
            del self._jobs[room]
            self._free(room)

    def _free(self, room: int) -> None:
        self._owners[room], self._states[room] = None, "free"

    def _room_of(self, owner: int) -> int | None:
        return self._owners.index(owner) if owner in self._owners else None
