"""Models as HTTP clients list them: registered names, aliases, and what has the seat."""

import pytest

from hotseat.gateway.callers import Caller
from hotseat.gateway.models import find_model, model_list
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import ModelView

VIEWS = [
    ModelView(name="big", state="seated", context_tokens=4096, aliases=("gpt-4o", "now")),
    ModelView(name="small", state="ready", aliases=("mini",)),
    ModelView(name="huge", state="unfit", aliases=("max",)),
]


def test_every_name_that_can_be_asked_is_listed_once():
    listed = model_list(VIEWS)
    ids = [model["id"] for model in listed["data"]]
    assert ids == ["big", "gpt-4o", "now", "small", "mini", "seated"]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("big", "seated", False)
    assert {model["context_window"] for model in listed["data"] if model["seated"]} == {4096}


@pytest.mark.parametrize(("name", "model"), [("now", "big"), ("seated", "big"), ("mini", "small")])
def test_model_is_found_by_any_of_its_names(name, model):
    assert find_model(VIEWS, name).name == model


def test_key_sees_only_the_aliases_it_may_ask():
    caller = Caller(name="ann", models=("big", "now"))
    (seen,) = caller.visible(VIEWS)
    assert (seen.name, seen.aliases) == ("big", ("now",))
    with pytest.raises(HotseatError, match="no model 'gpt-4o'"):
        find_model([seen], "gpt-4o")
