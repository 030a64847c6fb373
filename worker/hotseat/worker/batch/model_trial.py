"""Whether a model's code takes contexts of which layers pass through rooms: tried once a version.

Runs on the engine's thread; how far it is may be asked from any. Must not know requests.
"""

import mlx.core as mx
import mlx_lm

from hotseat.protocol.installed_code import own_code
from hotseat.protocol.link_reports import ContextsTried
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.streamed_contexts import ContextTrial, streamable_entries
from hotseat.worker.context.keeper import Send
from hotseat.worker.context.streamed import why_not_streamed
from hotseat.worker.dying import pass_on_loss
from hotseat.worker.model.loading import SeatedModel


class ModelTrial:
    """Of the seated model; an earlier seating may have made it."""

    def __init__(self, seated: SeatedModel, send: Send) -> None:
        self._seated = seated
        self._send = send
        self._under = _versions(seated.record)
        known = seated.load.trial
        self._why = known.why if known is not None and known.under == self._under else None
        self.is_running = False
        self.passes = 0
        """Passes of the model so far, each as long as a step."""

    def why_not(self) -> str:
        """Why its contexts stay in memory; empty if they need not. Takes six passes if not known.

        What did not get to its end holds for this seating: memory may have been short.
        """
        if self._why is None:
            self.is_running = True
            try:
                self._why = self._try()
            except Exception as error:  # noqa: BLE001 - whatever its code does not expect
                pass_on_loss(error)
                self._why = f"its code does not take it ({type(error).__name__})"
            finally:
                self.is_running = False
        return self._why

    def _try(self) -> str:
        """With all layers that could ever pass: with fewer of them less can go wrong."""
        record = self._seated.record
        entries = streamable_entries(record.layers)
        why = why_not_streamed(self._seated.model, record, entries, self._count_pass)
        self._send(ContextsTried(trial=ContextTrial(under=self._under, why=why)))
        return why

    def _count_pass(self) -> None:
        self.passes += 1


def _versions(record: ModelRecord) -> str:
    """All that a trial may depend on beside what the tag stands for."""
    code, mlx = own_code(), mx.__version__  # type: ignore[attr-defined]
    return (
        f"hotseat {code.version} ({code.digest}), mlx {mlx},"
        f" mlx-lm {mlx_lm.__version__}, registered at {record.registered_at}"
    )
