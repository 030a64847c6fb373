"""The memory plan of a folder that is not registered; needs no daemon."""

from pathlib import Path

from hotseat.cli.home.fitting import planning_here
from hotseat.cli.home.library_process import ImportBar, inspect_folder
from hotseat.protocol.views import PlanView
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.models.rules.plan import plan_elsewhere

HOLDERS = 5


def is_folder(model: str) -> bool:
    """True for what is a path and not a name, which has one slash at most: `OWNER/NAME`."""
    path = Path(model).expanduser()
    is_path = model.startswith((".", "/", "~")) or model.count("/") > 1 or model.endswith("/")
    return is_path or ("/" in model and path.exists()) or (path / "config.json").is_file()


def plan_folder(folder: str, ram_bytes: int | None, working_set_bytes: int | None) -> PlanView:
    """What the model in `folder` could use here, or on a machine of that size."""
    with ImportBar() as bar:
        found = inspect_folder(folder, bar.show)
    probe = system_probe()
    if ram_bytes is not None or working_set_bytes is not None:
        return plan_elsewhere(
            found.record, ram_bytes or probe.machine().total_bytes, working_set_bytes
        )
    holders = probe.holders(HOLDERS)
    fits = planning_here(found.working_set_bytes, in_any_case=False, holders=holders)
    return fits(found.record)
