"""Which KV files go when the disk tier is too large. Pure: files in, files out.

Files form trees: a block hangs on the block before it, a tail on the last full block. A file goes
only when nothing hangs on it, so what stays is always a prefix that can still be used.
"""

import heapq
from collections.abc import Iterable, Sequence
from enum import IntEnum

from msgspec import Struct

from hotseat.protocol.ids import Tag


class Worth(IntEnum):
    """What is lost with a file, least first."""

    UNUSABLE = 0
    """No registered model has its tag."""
    UNREFERENCED = 1
    """No session needs it; it may serve a prefix that comes again."""
    SESSION = 2
    """A cold session would need a prefill."""


class KvNode(Struct, frozen=True, kw_only=True):
    """A file of the disk tier. `parent` is the `node` it hangs on, or the root of its tag.

    `is_kept`: leased, pinned, of a running or live session, or being written.
    """

    node: str
    parent: str
    tag: Tag
    file: str
    size_bytes: int
    depth: int
    worth: Worth
    used_at: float
    is_kept: bool = False


def files_to_evict(
    nodes: Sequence[KvNode], wanted_bytes: float, most: Worth = Worth.SESSION
) -> list[KvNode]:
    """Leaves first; among them the least worth, then the least recently used, then the deepest.

    Ends when `wanted_bytes` are reached or nothing is left that may go. Files worth more than
    `most` stay.
    """
    children: dict[str, int] = {}
    for node in nodes:
        children[node.parent] = children.get(node.parent, 0) + 1
    loose = {node.node: node for node in nodes if not node.is_kept and node.worth <= most}
    heap = [_rank(node) for node in loose.values() if node.node not in children]
    heapq.heapify(heap)
    chosen: list[KvNode] = []
    freed = 0
    while heap and freed < wanted_bytes:
        node = loose[heapq.heappop(heap)[-1]]
        chosen.append(node)
        freed += node.size_bytes
        children[node.parent] -= 1
        parent = loose.get(node.parent)
        if parent is not None and children[node.parent] == 0:
            heapq.heappush(heap, _rank(parent))
    return chosen


def total_bytes(nodes: Iterable[KvNode]) -> int:
    """Bytes of some files."""
    return sum(node.size_bytes for node in nodes)


def _rank(node: KvNode) -> tuple[int, float, int, str]:
    return (node.worth, node.used_at, -node.depth, node.node)
