"""The errors that a caller of the client may want to treat differently. Pure."""

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import ErrorBody


class DaemonUnreachable(HotseatError):  # noqa: N818 - a state, as the table names it
    """No daemon answers: it does not run, it is going away, or it hangs."""

    def __init__(self, message: str, *, endpoint: str = "") -> None:
        super().__init__("daemon_unreachable", message, endpoint=endpoint)


class RequestFailed(HotseatError):  # noqa: N818 - what happened to the request
    """The daemon answered with an error of the table; `code` and `facts` are the daemon's.

    A code that this version of the client does not know becomes `internal`; the fact
    `daemon_code` then names it.
    """

    def __init__(self, body: ErrorBody) -> None:
        super().__init__(body.code, body.message, retry_after_s=body.retry_after_s)
        self.facts = dict(body.facts)
        self.retryable = body.retryable
        if self.code != body.code:
            self.facts["daemon_code"] = body.code
