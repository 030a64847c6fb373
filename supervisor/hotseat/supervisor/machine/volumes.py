"""Folders outside the home that may be gone: why, in words. Looks, changes nothing."""

import os
from pathlib import Path
from typing import Final

_MOUNT_ROOTS: Final = frozenset({"Volumes", "mnt", "media"})
_VOLUME_PARTS: Final = 2


def missing_volume(folder: Path) -> str:
    """Why a folder that should be there is not: its volume; empty if that is not the reason.

    A link to another volume stays where it is when the volume goes.
    """
    target = folder.readlink() if folder.is_symlink() else folder
    parts = target.parts
    if len(parts) > _VOLUME_PARTS and parts[1] in _MOUNT_ROOTS:
        volume = Path(*parts[: _VOLUME_PARTS + 1])
        if not volume.exists():
            return f"volume {volume} is not mounted"
    if folder.is_symlink() and not folder.exists():
        return f"folder {target} is missing; is its volume mounted?"
    return ""


def why_not_writable(folder: Path) -> tuple[str, str]:
    """Why nothing can be kept in a folder that may still have to be made, and the way out.

    Two empty texts if something can.
    """
    reason = missing_volume(folder)
    if reason:
        return reason, "mount it, or remove that line"
    if not folder.exists() and not folder.parent.is_dir():
        return f"has no parent folder {folder.parent}", "make it, or name another folder"
    if folder.exists() and not folder.is_dir():
        return "is no folder", "name a folder"
    place = folder if folder.exists() else folder.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return f"cannot be written ({place})", "name a folder of your own"
    return "", ""
