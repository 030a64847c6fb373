"""Makes a method that blocks of one that is awaited. Must not know how a client waits."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from hotseat.client.verbs import Verbs

P = ParamSpec("P")
T = TypeVar("T")


class Blocking(ABC):
    """A client whose methods wait for those of `_verbs`."""

    _verbs: Verbs

    @abstractmethod
    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to."""


def blocking(
    method: Callable[Concatenate[Verbs, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking, P], T]:
    """The method of a blocking client, with the parameters and the words of the awaited one."""

    @functools.wraps(method)
    def waited(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._verbs, *args, **kwargs))

    return waited
