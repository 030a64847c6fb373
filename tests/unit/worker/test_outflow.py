"""What waits on its way to the link, for how long, and what leaves as one."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.link_reports import Emitted, Prefilled, Stopped
from hotseat.protocol.replies import ChunkPart, TokenLogprob
from hotseat.worker.link.outflow import FAST_S, HOLD_S, LOOK_S, Outflow, join_output

EPOCH = Epoch(3)
A, B = RequestKey("t:a"), RequestKey("t:b")
SOON_S = FAST_S / 2
REPORTS = st.lists(
    st.tuples(st.sampled_from([A, B]), st.integers(0, 2), st.text("xé", max_size=3), st.booleans()),
    max_size=40,
)


def said(token, request=A):
    return Emitted(request=request, tokens=(token,), text=f"{token};")


def sent(flow):
    messages = []
    while taken := flow.take():
        messages += [message for _epoch, message in taken]
    return messages


def flowing(now=100.0):
    """An outflow that has just sent a token of A, soon after another one."""
    flow = Outflow()
    for before in (now - SOON_S, now):
        assert flow.put(EPOCH, said(0), before)
    assert len(sent(flow)) == 1
    return flow


def test_first_token_of_a_request_leaves_at_once():
    assert Outflow().put(EPOCH, said(1), 100.0)


def test_second_of_two_tokens_leaves_at_once_since_that_is_no_pace_yet():
    flow = Outflow()
    flow.put(EPOCH, said(0), 100.0)
    assert flow.put(EPOCH, said(1), 100.0 + SOON_S)


def test_token_right_after_two_that_came_fast_waits():
    assert not flowing().put(EPOCH, said(1), 100.0 + SOON_S)


def test_token_of_a_slow_model_never_waits():
    assert flowing().put(EPOCH, said(1), 100.0 + 2 * FAST_S)


def test_first_token_of_another_request_does_not_wait():
    assert flowing().put(EPOCH, said(1, B), 100.0 + SOON_S)


def test_report_that_is_no_output_does_not_wait():
    assert flowing().put(EPOCH, Stopped(), 100.0 + SOON_S)


def test_fast_tokens_leave_once_in_the_time_they_may_wait():
    flow, now, left = flowing(), 100.0, []
    while now < 100.0 + 10 * HOLD_S:
        now += SOON_S
        if flow.put(EPOCH, said(1), now):
            left.append(now)
            sent(flow)
    assert len(left) in (9, 10)
    assert all(later - earlier >= HOLD_S for earlier, later in pairwise(left))
    assert all(later - earlier < HOLD_S + 2 * SOON_S for earlier, later in pairwise(left))


def test_what_waits_behind_the_last_token_is_looked_at():
    flow = flowing()
    flow.put(EPOCH, said(1), 100.0 + SOON_S)
    assert flow.looks_at == 100.0 + SOON_S + LOOK_S
    assert not flow.is_due(flow.looks_at - SOON_S)
    assert flow.is_due(flow.looks_at)


def test_nobody_looks_while_nothing_was_held():
    assert flowing().looks_at == float("inf")


def test_look_is_repeated_while_tokens_flow_and_ends_with_them():
    flow = flowing()
    flow.put(EPOCH, said(1), 100.0 + SOON_S)
    sent(flow)
    first = flow.looks_at
    assert not flow.is_due(first), "it left with another one"
    assert flow.looks_at == first + LOOK_S
    assert not flow.is_due(first + LOOK_S)
    assert flow.looks_at == float("inf")


def test_tokens_that_waited_together_leave_as_one():
    flow = flowing()
    for token in (1, 2, 3):
        flow.put(EPOCH, said(token), 100.0 + SOON_S)
    (one,) = sent(flow)
    assert one == Emitted(request=A, tokens=(1, 2, 3), text="1;2;3;", text_lengths=(2, 2, 2))


def test_report_between_tokens_keeps_its_place():
    flow = Outflow()
    between = Prefilled(request=B, tokens_done=1)
    for message in (said(1), said(2), between, said(3)):
        flow.put(EPOCH, message, 100.0)
    first, second, third = sent(flow)
    assert (first.tokens, second, third.tokens) == ((1, 2), between, (3,))


def test_tokens_of_two_epochs_are_not_joined():
    flow = Outflow()
    flow.put(EPOCH, said(1), 100.0)
    flow.put(Epoch(EPOCH + 1), said(2), 100.0)
    assert [message.tokens for message in sent(flow)] == [(1,), (2,)]


def test_logprobs_stay_with_their_tokens():
    entries = [TokenLogprob(token=token, logprob=-1.0 * token) for token in (1, 2)]
    reports = [
        Emitted(request=A, tokens=(entry.token,), text="x", logprobs=(entry,)) for entry in entries
    ]
    assert join_output(reports)[0].logprobs == tuple(entries)


@given(steps=REPORTS)
def test_joined_output_of_each_request_is_what_it_said(steps):
    reports = [
        Emitted(
            request=request,
            tokens=tuple(range(count)),
            text=text,
            parts=(ChunkPart(type="reasoning", text=text),) if thinks else (),
        )
        for request, count, text, thinks in steps
    ]
    joined = join_output(reports)
    for request in (A, B):
        before = [report for report in reports if report.request == request]
        after = [report for report in joined if report.request == request]
        assert [t for r in after for t in r.tokens] == [t for r in before for t in r.tokens]
        assert "".join(r.text for r in after) == "".join(r.text for r in before)
        assert [p for r in after for p in r.parts] == [p for r in before for p in r.parts]
    for report in joined:
        assert not report.text_lengths or sum(report.text_lengths) == len(report.text)
