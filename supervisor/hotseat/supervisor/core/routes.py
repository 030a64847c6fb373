"""Which model a request means, and whether the seat may be moved for it. Pure."""

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Generate


def model_asked(request: Generate, seated: str | None) -> str:
    """The registered name that a request means. Raises not_seated."""
    if request.model != "seated":
        return request.model
    if seated is None:
        raise HotseatError("not_seated", "no model is seated; name one", seated=None)
    return seated


def check_swap_allowed(
    request: Generate, model: str, seated: str | None, released_s: float | None
) -> None:
    """Raises seat_released or not_seated for a request that would move the seat and must not.

    `released_s`: for how long the seat stays given up, None if it is not.
    """
    if model == seated:
        return
    if released_s is not None and request.swap == "auto":
        raise HotseatError(
            "seat_released",
            f"the seat was given up for {released_s:.0f} s more; `hotseat swap {model}` "
            "takes it back",
            retry_after_s=round(released_s, 1),
        )
    if request.swap == "never":
        raise HotseatError(
            "not_seated",
            f"{model} is not seated ({seated or 'nobody'} is) and swap is never",
            seated=seated,
        )
