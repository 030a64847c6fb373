"""What exists while a model is loaded: its requests on their way through batches."""

from collections.abc import Callable

from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.link_reports import FromWorker
from hotseat.worker.batch.context_source import ContextFetcher
from hotseat.worker.batch.endings import Endings
from hotseat.worker.batch.entry import BatchEntry
from hotseat.worker.batch.long_contexts import LongContexts
from hotseat.worker.batch.model_trial import ModelTrial
from hotseat.worker.batch.runner import Runner
from hotseat.worker.context.keeper import Keeper
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.store.reader import Restorer


class Seat:
    """Everything that exists only while a model is loaded."""

    def __init__(
        self,
        seated: SeatedModel,
        epoch: Epoch,
        restorer: Restorer,
        send: Callable[[FromWorker], None],
    ) -> None:
        self.seated = seated
        self.budget = budget = seated.kv_budget()
        self.keeper = Keeper(seated, epoch, send)
        endings = Endings(self.keeper, send)
        self.trial = ModelTrial(seated, send)
        self._long = long = LongContexts(seated, budget, self.keeper, self.trial)
        self.runner = Runner(seated, budget, self.keeper, endings, long, send)
        fetcher = ContextFetcher(seated, self.keeper.live, restorer, long, send)
        self.entry = BatchEntry(
            seated, budget, self.keeper, endings, self.runner, fetcher, long, send
        )
        self._has_gathered = False

    @property
    def read_figures(self) -> tuple[int, float]:
        """Bytes of weights and contexts that were read, and seconds of that; from any thread."""
        return self._long.figures

    def requests(self) -> list[RequestKey]:
        """Everything that waits or runs."""
        turns = [*self.entry.turns(), *self.runner.turns()]
        return list(dict.fromkeys(turn.start.request for turn in turns))

    def enter(self) -> bool:
        """Lets in what can come in now; False if nothing moved."""
        worked = False
        while self.entry.step():
            worked = True
        return worked

    def decode(self) -> bool:
        """One decode step of every batch; False if there was none.

        Requests seldom come at one moment: those that could begin wait once for the short prompts
        that are about to be fed, since whoever begins alone takes a pass of the model for itself.
        """
        self._has_gathered = not self._has_gathered and self.runner.could_gather
        return not self._has_gathered and self.runner.decode()

    def feed(self) -> bool:
        """Feeds a chunk's worth of prompts, one after the other; False if there are none.

        Short ones that came together decode together from then on, and whoever decodes meanwhile
        waits no longer than for one chunk.
        """
        if not self.runner.is_prefilling:
            return False
        room = self.runner.prompt_room
        worked = False
        while cost := self.runner.feed(room):
            worked = True
            self.enter()
            # A piece of a long prompt is fed by itself: messages are looked at in between.
            room = room - cost if cost < self.runner.chunk else 0
        return worked

    def close(self) -> None:
        """Writes what was put, ends the threads, gives all KV back."""
        self.keeper.close()
        for turn in (*self.entry.turns(), *self.runner.turns()):
            turn.leave_files()
        self.runner.close()
        self._long.close()
        if self.seated.streaming is not None:
            self.seated.streaming.close()
