"""The one table of errors that can cross the wire, and the exception that carries one. Pure."""

from typing import Any, Final

import msgspec


class ErrorSpec(msgspec.Struct, frozen=True):
    """What a code means to every client: `docs/protocol.md` renders this table."""

    code: str
    meaning: str
    retryable: bool
    exit_code: int
    http_status: int


def _table(*rows: tuple[str, str, bool, int, int]) -> dict[str, ErrorSpec]:
    return {row[0]: ErrorSpec(*row) for row in rows}


ERRORS: Final[dict[str, ErrorSpec]] = _table(
    ("bad_frame", "The bytes are not a message of this protocol.", False, 2, 400),
    ("version_mismatch", "Versions of client, daemon or catalogue do not fit.", False, 2, 400),
    ("unknown_kind", "No such kind of message.", False, 2, 400),
    ("invalid_request", "A field is missing, of the wrong type or out of range.", False, 2, 400),
    ("unknown_model", "No model of this name is registered.", False, 4, 404),
    ("model_unfit", "The model does not fit the memory budget.", False, 5, 507),
    ("model_quarantined", "The model failed to load twice in a row.", True, 5, 503),
    ("model_unavailable", "The model is registered but cannot be loaded.", False, 5, 503),
    ("unsupported_feature", "The request asks for something this model cannot do.", False, 2, 400),
    ("unsupported_content", "A message part is of a type the model cannot take.", False, 2, 400),
    ("context_overflow", "The prompt does not fit the context or the KV budget.", False, 2, 400),
    ("not_seated", "The model is not seated and the request forbids a swap.", True, 6, 409),
    ("seat_taken", "Another hotseat on this machine holds the seat.", True, 6, 423),
    ("restart_needed", "hotseat was upgraded and the daemon not restarted.", True, 6, 503),
    ("seat_released", "The seat was given up on purpose.", True, 6, 423),
    ("session_missing", "No session of this name on this model.", False, 4, 404),
    ("session_busy", "The session has a turn running.", True, 6, 409),
    ("session_conflict", "The session is at another turn than expected.", False, 6, 409),
    ("session_diverged", "The request contradicts what the session holds.", False, 6, 409),
    ("queue_full", "Too many requests wait.", True, 6, 429),
    ("deadline_exceeded", "The deadline passed.", True, 7, 504),
    ("still_working", "The answer is not there yet; asking again waits on.", True, 7, 503),
    ("draining", "The seat is being drained and could not be in time.", True, 6, 503),
    ("shutting_down", "The daemon is stopping.", True, 6, 503),
    ("slow_consumer", "The client did not read its stream.", False, 1, 429),
    ("request_unknown", "No request of this id is known or kept.", False, 4, 404),
    ("request_conflict", "This request id was used with another body.", False, 2, 409),
    ("interrupted", "The daemon restarted and nobody claimed the request.", True, 7, 503),
    ("worker_lost", "The worker died and the work could not be continued.", True, 7, 503),
    ("poison_request", "The request alone killed the worker twice.", False, 7, 422),
    ("disk_full", "The disk or the KV budget on it is full.", True, 8, 507),
    ("memory_pressure", "The machine is short of memory.", True, 8, 507),
    ("memory_stranded", "Memory of an ended worker did not come back.", True, 8, 507),
    ("daemon_unreachable", "No daemon answers at the endpoint.", True, 3, 503),
    ("already_running", "A daemon of this home is running.", False, 6, 409),
    ("invalid_config", "A setting or the home folder cannot be used.", False, 2, 500),
    ("service_failed", "launchd did not do what was asked.", True, 9, 500),
    ("internal", "A defect in hotseat; the log has the details.", False, 70, 500),
)


class HotseatError(Exception):
    """An error of the table, with its facts: what failed, the value, the limit, the way out.

    Attributes:
        code: a key of `ERRORS`.
        message: one sentence for a person.
        facts: JSON-safe details a program can act on.
        retry_after_s: seconds after which trying again makes sense, if known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        /,
        *,
        retry_after_s: float | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.code = code if code in ERRORS else "internal"
        self.message = message
        self.facts: dict[str, Any] = facts
        self.retry_after_s = retry_after_s

    @property
    def spec(self) -> ErrorSpec:
        """The row of the table."""
        return ERRORS[self.code]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
