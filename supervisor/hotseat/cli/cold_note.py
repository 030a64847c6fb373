"""Says what a model that was imported anew leaves behind: contexts that nobody can use."""

from hotseat.cli.output import note, size
from hotseat.cli.reading import connected
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.ids import ModelName, Tag
from hotseat.protocol.model import ModelRecord


def registered_tags() -> dict[ModelName, Tag]:
    """Tags by model, before the import."""
    from hotseat.supervisor.placing import open_home
    from hotseat.supervisor.registry import Registry

    return {one.name: one.tag for one in Registry(*open_home()).records()}


def note_what_is_cold(before: Tag | None, record: ModelRecord) -> None:
    """On stderr, if the tag changed: how much it was, as far as a daemon can tell."""
    if before is None or before == record.tag:
        return
    text = f"stored contexts of the {record.name} before are cold and are collected first"
    try:
        with connected() as client:
            rows = [row for row in client.disk().tags if row.tag == before]
    except DaemonUnreachable:
        rows = []
    for row in rows:
        text += f": {row.sessions} sessions, {size(row.size_bytes)}"
    note(f"{text}; see `hotseat disk`")
