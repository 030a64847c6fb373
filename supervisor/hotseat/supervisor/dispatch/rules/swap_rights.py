"""Whether the seat may be moved for a request. Pure."""

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Generate


def check_swap_allowed(
    request: Generate, model: str, seated: str | None, released_s: float | None
) -> None:
    """Raises seat_released or not_seated for a request that would move the seat and must not.

    `released_s`: for how long the seat stays given up, None if it is not.
    """
    if model == seated:
        return
    if released_s is not None and request.swap == "auto":
        raise seat_released(model, released_s)
    if request.swap == "never":
        raise HotseatError(
            "not_seated",
            f"{model} is not seated ({seated or 'nobody'} is) and swap is never",
            seated=seated,
        )


def seat_released(model: str, released_s: float) -> HotseatError:
    """What is told to whoever would need the seat while it stays given up."""
    return HotseatError(
        "seat_released",
        f"the seat was given up for {released_s:.0f} s more; `hotseat swap {model}` takes it back",
        retry_after_s=round(released_s, 1),
    )
