"""How what an upgrade costs looks to a person."""

from hotseat.cli.terminal.output import count, duration, note, print_table
from hotseat.supervisor.daemon.upgrade_check import UpgradeView


def render_upgrade(view: UpgradeView) -> None:
    """What changed, then a line for each model with contexts that are cold."""
    print(f"installed: hotseat {view.installed.hotseat}")
    for line in view.changed:
        print(f"  {line}")
    if not view.cold:
        print(f"all contexts stay warm ({count(view.warm_sessions)} sessions)")
        return
    print_table(
        ("MODEL", "SESSIONS ", "PINNED ", "AHEAD ", "TOKENS ", "AGAIN "),
        [
            (
                row.model,
                count(row.sessions),
                count(row.pinned),
                count(row.ahead),
                count(row.tokens),
                _again(row.seconds, is_registered=row.is_registered),
            )
            for row in view.cold
        ],
    )
    note(
        "AHEAD: pinned or used within a week, computed again on mains while their model is seated "
        "and nobody asks for anything; the others with their next turn. Messages stay"
    )


def _again(seconds: float | None, *, is_registered: bool) -> str:
    if not is_registered:
        return "not registered"
    return "never measured" if seconds is None else duration(seconds)
