"""What both clients can do with KV on disk. Must not know sockets or threads."""

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

from hotseat.client.results import typed
from hotseat.protocol.disk_views import DiskView, GcView, VerifyView
from hotseat.protocol.messages import ClientMessage, Disk, KvGc, KvVerify
from hotseat.protocol.replies import Reply

T = TypeVar("T")


class AsyncDiskVerbs(ABC):
    """Disk methods of `AsyncClient`."""

    @abstractmethod
    async def _call(self, message: ClientMessage) -> Reply:
        """The answer of the daemon; the client has it."""

    @abstractmethod
    async def _call_patiently(self, message: ClientMessage) -> Reply:
        """The answer, however long it takes; the client has it."""

    async def disk(self) -> DiskView:
        """How much KV is on disk, whose it is and within which limits."""
        return typed(await self._call(Disk()), DiskView)

    async def verify_kv(self) -> VerifyView:
        """Has every KV file read and checked; takes as long as reading them takes."""
        return typed(await self._call_patiently(KvVerify()), VerifyView)

    async def collect_kv(self, *, dry_run: bool = False) -> GcView:
        """Removes KV that no session needs or no model can use; or lists it."""
        return typed(await self._call_patiently(KvGc(dry_run=dry_run)), GcView)


class SyncDiskVerbs(ABC):
    """Disk methods of `Client`: those of `AsyncDiskVerbs`, waited for."""

    _disk_verbs: AsyncDiskVerbs

    @abstractmethod
    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to; the client has it."""

    def disk(self) -> DiskView:
        """How much KV is on disk, whose it is and within which limits."""
        return self._wait(self._disk_verbs.disk())

    def verify_kv(self) -> VerifyView:
        """Has every KV file read and checked; takes as long as reading them takes."""
        return self._wait(self._disk_verbs.verify_kv())

    def collect_kv(self, *, dry_run: bool = False) -> GcView:
        """Removes KV that no session needs or no model can use; or lists it."""
        return self._wait(self._disk_verbs.collect_kv(dry_run=dry_run))
