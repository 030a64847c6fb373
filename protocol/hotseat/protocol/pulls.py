"""What fetching a repository of the hub would bring, and what it brought. Pure."""

from msgspec import Struct

from hotseat.protocol.model import ModelRecord


class PullPlan(Struct, frozen=True, kw_only=True):
    """The files of a repository that make up its model. `record`: as the configuration tells."""

    repository: str
    revision: str
    """The commit that was asked for, in full."""
    size_bytes: int
    """All of its files together."""
    missing_bytes: int
    """What is not in the hub's cache yet."""
    files: int
    licence: str
    record: ModelRecord
    working_set_bytes: int | None = None


class Pulled(Struct, frozen=True, kw_only=True):
    """A snapshot that is whole, in the hub's cache."""

    path: str
    licence: str
