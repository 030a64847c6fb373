"""The client's stream machine against the daemon's: whatever is merged, cut off or sent again,
the consumer sees every token and every character once, and credit never runs dry."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hotseat.client.completion import Completion
from hotseat.protocol.ids import RequestId
from hotseat.protocol.messages import Attach, Credit, Generate
from hotseat.protocol.replies import Accepted, Chunk, Done, Timing, Usage
from hotseat.supervisor.requests.rules.streams import Emission, OutStream

# One emission per step: tokens and the text they release; text may lag behind tokens.
STEPS = st.lists(
    st.tuples(st.integers(1, 3), st.text("abcä\n", max_size=6)), min_size=1, max_size=30
)


def emissions_of(steps):
    emissions, offset, text_offset = [], 0, 0
    for count, text in steps:
        tokens = tuple(range(offset, offset + count))
        emissions.append(Emission(offset=offset, text_offset=text_offset, tokens=tokens, text=text))
        offset += count
        text_offset += len(text)
    return emissions, offset


def done_of(emissions, count):
    return Done(
        model="m",
        text="".join(emission.text for emission in emissions),
        tokens=tuple(range(count)),
        finish_reason="stop",
        usage=Usage(),
        timing=Timing(),
    )


class Wire:
    """A daemon with one request; connections end when the test says so."""

    def __init__(self, emissions, done, window):
        self.emissions = emissions
        self.done = done
        self.completion = Completion(
            RequestId("r"), Generate(model="m", prompt="x", credit_bytes=window), 1.0
        )
        self.completion.is_sent = True
        self.emitted = 0
        self.seen = []
        self.stream = OutStream(window)
        self.deliver(Accepted(position=0))

    def deliver(self, message):
        for answer in self.completion.receive(message):
            self.answer(answer)

    def answer(self, message):
        if isinstance(message, Credit):
            self.stream.grant(message.grant_bytes)
        if isinstance(message, Attach):
            self.attach(message)

    def attach(self, message):
        self.stream = OutStream(message.credit_bytes, message.offset_tokens)
        for emission in self.emissions[: self.emitted]:
            self.stream.push(emission)
        self.deliver(Accepted(position=0, replayed=True))

    def emit(self):
        if self.emitted < len(self.emissions):
            self.stream.push(self.emissions[self.emitted])
            self.emitted += 1

    def send(self):
        chunk = self.stream.take(0.0)
        if chunk is not None:
            self.deliver(chunk)
        return chunk is not None

    def consume(self):
        item, messages = self.completion.take()
        if item is not None:
            self.seen.append(item)
        for message in messages:
            self.answer(message)
        return item is not None

    def reconnect(self):
        self.answer(self.completion.reopening())

    def recompute(self):
        """The daemon restarted: the same output comes again from the first token on."""
        self.emitted = 0
        self.reconnect()

    def finish(self):
        while self.emitted < len(self.emissions):
            self.emit()
        while self.send() or self.consume():
            pass
        assert self.stream.is_empty, "credit ran dry"
        self.deliver(self.done)
        while self.consume():
            pass


ACTIONS = st.lists(
    st.sampled_from(["emit", "emit", "emit", "send", "send", "consume", "reconnect", "recompute"]),
    max_size=60,
)


@settings(max_examples=300)
@given(STEPS, ACTIONS, st.integers(1, 400), st.booleans())
def test_any_connection_trouble_loses_and_doubles_nothing(steps, actions, window, only_done):
    emissions, count = emissions_of(steps)
    wire = Wire(emissions, done_of(emissions, count), window)
    for action in actions:
        getattr(wire, action)()
    if only_done:
        wire.deliver(wire.done)
        while wire.consume():
            pass
    else:
        wire.finish()
    assert wire.completion.error is None
    assert wire.completion.result == wire.done
    chunks = [item for item in wire.seen if isinstance(item, Chunk)]
    assert [token for chunk in chunks for token in chunk.tokens] == list(range(count))
    text = "".join(part.text for chunk in chunks for part in chunk.parts)
    assert text == wire.done.text
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))


@settings(max_examples=100)
@given(STEPS, st.integers(1, 200))
def test_output_that_waits_never_exceeds_the_window_by_more_than_a_chunk(steps, window):
    emissions, count = emissions_of(steps)
    wire = Wire(emissions, done_of(emissions, count), window)
    while wire.emitted < len(emissions):
        wire.emit()
        wire.send()
    waiting = wire.completion._window._buffered_bytes
    largest = max(emission.cost_bytes for emission in emissions)
    assert waiting < window + largest
