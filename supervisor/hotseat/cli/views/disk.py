"""How KV on disk looks to a person."""

from pathlib import Path
from typing import Any

import msgspec

from hotseat.cli.terminal.output import count, print_facts, print_table, size
from hotseat.protocol.disk_views import DiskTagView, DiskView, GcView, KvFileView, VerifyView
from hotseat.supervisor.catalogue.rebuilding import Rebuilt

_SHORT = 8


def disk_dict(view: DiskView | None) -> dict[str, Any]:
    """One object; without a daemon there is nobody to ask."""
    if view is None:
        return {"running": False}
    plain: dict[str, Any] = {"running": True} | msgspec.to_builtins(view)
    return plain


def render_disk(view: DiskView | None) -> None:
    """Limits, then one row per tag."""
    if view is None:
        print("no daemon runs; start it with `hotseat serve`")
        return
    print_facts(
        [
            ("KV on disk", f"{size(view.used_bytes)} of {size(view.budget_bytes)}"),
            ("eviction", f"from {size(view.high_bytes)} down to {size(view.low_bytes)}"),
            ("free", f"{size(view.free_bytes)}, {size(view.floor_bytes)} of it always stay free"),
            ("quarantined", size(view.quarantined_bytes) if view.quarantined_bytes else ""),
            (
                "written",
                f"{size(view.bytes_written)} since the start, {size(view.bytes_written_ever)} ever",
            ),
            ("", _days(view)),
        ]
    )
    if not view.tags:
        return
    print()
    print_table(
        (
            "MODEL",
            "TAG",
            "SIZE ",
            "SESSIONS ",
            "BLOCKS ",
            "TAILS ",
            "SNAPSHOTS ",
            "PINNED ",
            "UNUSED ",
            "",
        ),
        [
            (
                ", ".join(tag.models) or "-",
                tag.tag[:_SHORT],
                size(tag.size_bytes),
                count(tag.sessions),
                count(tag.blocks),
                count(tag.tails),
                count(tag.snapshots),
                size(tag.pinned_bytes),
                size(tag.unreferenced_bytes),
                _remark(tag),
            )
            for tag in view.tags
        ],
    )


def _days(view: DiskView) -> str:
    limit = view.daily_write_bytes
    bound = "" if limit is None else f" of {size(limit)}"
    return f"{size(view.bytes_written_today)}{bound} today, {size(view.bytes_written_a_day)} a day"


def _remark(tag: DiskTagView) -> str:
    return "" if tag.usable else "cold: no registered model has this tag; goes first"


def render_verified(view: VerifyView) -> None:
    """What was read, what is wrong."""
    print(f"{count(view.files)} files, {size(view.size_bytes)}, read in {view.seconds:.1f} s")
    _render_files(view.damaged)
    _render_files(view.missing)
    if view.unknown:
        print(f"{view.unknown} files are not in the catalogue; `hotseat kv gc` removes them")
    if not view.damaged and not view.missing:
        print("all of them verify")


def render_collected(view: GcView) -> None:
    """What went, or would go."""
    if view.dry_run:
        _render_files(view.items)
    if view.cold_sessions:
        print(f"need a prefill at their next turn: {', '.join(view.cold_sessions)}")
    verb = "would go" if view.dry_run else "removed"
    print(f"{verb}: {count(view.files)} files, {size(view.size_bytes)}")


def render_rebuilt(rebuilt: Rebuilt, aside: Path | None) -> None:
    """What is known again."""
    print(
        f"{count(rebuilt.sessions)} sessions, {count(rebuilt.turns)} turns, "
        f"{count(rebuilt.blocks)} blocks, {count(rebuilt.tails)} tails, "
        f"{count(rebuilt.snapshots)} snapshots"
    )
    if rebuilt.copied_sessions or rebuilt.copied_replies:
        print(
            f"from the copy before the last migration: {count(rebuilt.copied_sessions)} sessions, "
            f"{count(rebuilt.copied_replies)} stored replies"
        )
    if rebuilt.unused_files:
        print(f"{count(rebuilt.unused_files)} files fit nowhere; the next start removes them")
    if aside is not None:
        print(f"the catalogue before is kept as {aside}")


def _render_files(files: tuple[KvFileView, ...]) -> None:
    if files:
        print_table(
            ("TAG", "FILE", "SIZE ", "WHY"),
            [(file.tag[:_SHORT], file.file, size(file.size_bytes), file.reason) for file in files],
        )
