"""Random conversations through templates of six families: no fold looks ahead."""

import functools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.models import chat_templates
from tests.support.models.records import model_record

from hotseat.protocol.messages import FunctionSpec, Message, Part, Tool, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.supervisor.conversation.framing import Framing, appends_exactly
from hotseat.worker.text.history import fold_history
from hotseat.worker.text.rendering import Renderer
from hotseat.worker.text.template_probe import probe_template

CLOCK = 1_700_000_000.0
TOOL = Tool(function=FunctionSpec(name="tide", parameters={"type": "object", "properties": {}}))
FOLDS = (
    *("system", "several_system", "later_system", "user_turns", "assistant_turns"),
    *("empty_replies", "calls", "results", "parallel_calls", "text_with_calls", "call_ids"),
    *("missing_results", "user_after_results"),
)
texts = st.sampled_from(["", "One.", "Two lines.\nHere.", "7 stones", "Which?"])
contents = st.one_of(
    texts,
    st.none(),
    texts.map(lambda text: (Part(type="text", text=text), Part(type="text", text="+"))),
)
ids = st.sampled_from(["tide00001", "call_of_a_long_name", ""])


@st.composite
def spans(draw):
    """A reply with the results of some of its calls in any order, and what else comes in."""
    names = draw(st.lists(ids, max_size=3, unique=True))
    calls = tuple(ToolCall(id=name, name="tide", arguments='{"at": 1}') for name in names)
    reply = Message(role="assistant", content=draw(contents), tool_calls=calls)
    answered = draw(st.permutations(names))[: draw(st.integers(0, len(names)))]
    results = [Message(role="tool", content=draw(texts), tool_call_id=name) for name in answered]
    others = draw(
        st.lists(
            st.one_of(
                st.builds(Message, role=st.sampled_from(["user", "system"]), content=contents),
                st.builds(
                    Message, role=st.just("tool"), content=texts, tool_call_id=st.just("stray")
                ),
            ),
            max_size=3,
        )
    )
    return [reply, *draw(st.permutations([*results, *others]))]


@st.composite
def conversations(draw):
    lead = draw(st.lists(st.builds(Message, role=st.just("system"), content=texts), max_size=2))
    asked = [Message(role="user", content="Name a river.")]
    return [*lead, *asked], [one for one in draw(st.lists(spans(), max_size=4)) if one]


@functools.cache
def renderer_of(family):
    folder = Path(tempfile.mkdtemp())
    tokenizer = chat_templates.load_family(folder, family)
    probe = probe_template(tokenizer)
    return Renderer(tokenizer, probe), probe


@given(conversations(), st.sets(st.sampled_from(FOLDS)), st.booleans())
def test_folded_history_is_a_prefix_of_its_continuation(talk, folds, is_null):
    probe = TemplateProbe(mode="exact", folds=tuple(folds), null_content=is_null)
    messages, following = talk
    for span in following:
        folded = fold_history(messages, probe)
        messages = [*messages, *span]
        assert fold_history(messages, probe)[: len(folded)] == folded


@pytest.mark.parametrize("family", chat_templates.FAMILIES)
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(talk=conversations())
def test_appended_turns_equal_the_whole_conversation_rendered(family, talk):
    renderer, probe = renderer_of(family)
    tools = (TOOL,) if probe.tools else ()
    record = model_record(template=probe)
    messages, following = talk
    for reply, *more in following:
        prompt = renderer.render(messages, CLOCK, tools=tools)
        shown = renderer.render([*messages, reply], CLOCK, tools=tools, generation_prompt=False)
        messages = [*messages, reply, *more]
        whole = renderer.render(messages, CLOCK, tools=tools)
        if not more or not appends_exactly(record, Framing(tools=tools), reply):
            continue
        added = renderer.append(prompt, more, CLOCK, calls=reply.tool_calls, tools=tools)
        assert shown[: len(prompt)] == prompt
        assert shown[: len(whole) - len(added)] + added == whole
