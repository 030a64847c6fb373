"""Whether weights are wired, that is kept from being paged out by macOS. Pure."""

from hotseat.protocol.link_orders import Wiring


def wiring(asked: Wiring | None, panic_report: str) -> Wiring:
    """What a worker is told: what the settings say, else weights until a panic tells of them."""
    if asked is not None:
        return asked
    return "off" if panic_report else "weights"


def wiring_notice(asked: Wiring | None, panic_report: str) -> str:
    """What a person should know of it; empty where the settings decide, or nothing happened."""
    if asked is not None or not panic_report:
        return ""
    return (
        f"weights are not wired since the kernel panic {panic_report}, which names IOGPU and "
        'Python: the first token after a rest is slower; `[memory] wire = "weights"` wires them '
        'again, `"off"` keeps it so'
    )
