"""What discovery tells: registered or not, fitting or why not, and the way to use it."""

import pytest
from tests.support.models.records import model_record

from hotseat.cli.home.discovery import choices_of, free_name, register_found, view_discovery
from hotseat.cli.main import run
from hotseat.cli.views.discovery import FoundView, render_discovery
from hotseat.library.discovery.shape import estimate_parts
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.found_models import Discovery, FoundModel
from hotseat.protocol.ids import is_model_name
from hotseat.protocol.limits import GIB
from hotseat.protocol.model import ModelSource
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.settings.values import Settings

MACHINE = MachineMemory(total_bytes=16 * GIB, available_bytes=GIB)


def fits(record):
    return plan_model(record, MACHINE, Settings(), in_any_case=True)


def model(name="m", **changes):
    fields = {
        "name": name,
        "place": "folder",
        "kind": "MLX",
        "path": f"/models/{name}",
        "source": f"/models/{name}",
        "size_bytes": GIB,
        "record": model_record(name),
    }
    return FoundModel(**(fields | changes))


def seen(*models, records=()):
    return view_discovery(Discovery(models=models), records, fits).models


@pytest.mark.parametrize(
    ("found", "state", "fitting", "command"),
    [
        (model(), "new", True, "hotseat import /models/m"),
        (model(record=model_record(weights_bytes=40 * GIB)), "too large", False, ""),
        (model(fault="incomplete", reason="r", record=None), "incomplete", None, ""),
        (model(fault="unsupported", reason="r", record=None), "unsupported", None, ""),
        (model(record=model_record(layers=())), "new", None, "hotseat import /models/m"),
        (
            model("q:8b", place="Ollama", kind="GGUF", path="/o/sha", source="ollama:q:8b"),
            "new",
            True,
            "hotseat import ollama:q:8b",
        ),
        (model(source="/m y"), "new", True, "hotseat import '/m y'"),
    ],
)
def test_state_follows_from_faults_and_the_plan(found, state, fitting, command):
    (view,) = seen(found)
    assert (view.state, view.fits, view.command) == (state, fitting, command)
    assert bool(view.reason) == (state in ("too large", "incomplete", "unsupported"))


def test_model_that_would_be_read_as_it_is_needed_is_new_and_says_so():
    weights = 18 * GIB
    parts = estimate_parts({"num_hidden_layers": 48, "num_experts_per_tok": 8}, weights, 128)
    assert parts.total == weights
    (view,) = seen(model(record=model_record(weights_bytes=weights, parts=parts)))
    assert (view.state, view.fits) == ("new", True)
    assert "of 128 experts a layer in memory" in view.reason
    assert estimate_parts({}, weights, 128) is None


def test_memory_that_is_taken_now_does_not_count():
    (view,) = seen(model())
    assert MACHINE.available_bytes < view.weights_bytes
    assert view.fits and view.max_context_tokens > 8192


def test_registered_models_are_known_by_folder_and_by_source(tmp_path):
    folder, link = tmp_path / "real", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    by_path = model_record("a", path=str(link))
    by_source = model_record("b", path="/x", source=ModelSource(kind="gguf", path="/o/blob"))
    views = seen(
        model("one", path=str(folder)),
        model("two", source="/o/blob"),
        model("three"),
        records=(by_path, by_source),
    )
    assert [view.registered_as for view in views] == [("a",), ("b",), ()]
    assert [view.state for view in views] == ["registered", "registered", "new"]


def test_registering_takes_new_mlx_folders_only_and_goes_on_after_a_failure():
    view = view_discovery(
        Discovery(
            models=(
                model("bad"),
                model("good"),
                model("file", kind="GGUF"),
                model("big", record=model_record(weights_bytes=40 * GIB)),
                model("known", path="/k"),
            )
        ),
        (model_record("known", path="/k"),),
        fits,
    )
    calls = []

    def register(path, name, *_):
        calls.append((path, name))
        if name == "bad":
            raise HotseatError("model_unavailable", "no good")
        return model_record(name)

    view = register_found(view, lambda _phase, _percent: None, register)
    assert calls == [("/models/bad", "bad"), ("/models/good", "good")]
    assert [(a.name, a.error) for a in view.registered] == [("bad", "no good"), ("good", "")]


def test_folder_whose_name_is_no_model_name_gets_a_legal_one():
    assert free_name(found_view(".my model (8B)", "o"), {"x"}) == "my-model-8B-"
    assert is_model_name(free_name(found_view("x" * 300, "o" * 300), {"x" * 60, "o" * 60}))


def test_register_without_discover_is_a_wrong_command_line(capsys):
    assert run(["models", "--register"]) == 2
    assert "--discover" in capsys.readouterr().err


def found_view(name, owner=""):
    return FoundView(
        name=name, owner=owner, place="p", kind="MLX", path="/", state="new", size_bytes=0
    )


@pytest.mark.parametrize(
    ("owner", "taken", "expected"),
    [
        ("", set(), "m"),
        ("o", {"m"}, "o-m"),
        ("o", {"m", "o-m"}, "o-m-2"),
        ("", {"m"}, "m-2"),
    ],
)
def test_name_that_is_taken_gets_its_owner_or_a_number(owner, taken, expected):
    assert free_name(found_view("m", owner), taken) == expected


def test_list_names_reasons_and_ways(capsys):
    view = view_discovery(
        Discovery(
            models=(
                model("half", fault="incomplete", reason="parts are missing", record=None),
                model(),
            )
        ),
        (),
        fits,
    )
    render_discovery(view)
    out, err = capsys.readouterr()
    assert "half" in out and "incomplete" in out
    assert "half: parts are missing" in err
    assert "--register` takes 1" in err


def test_choices_are_the_registered_models_and_those_that_fit_and_could_be():
    registered = model_record(
        "here", path="/models/here", source=ModelSource(kind="mlx", path="/x")
    )
    unfit = model_record("unfit", path="/u", unfit_reason="chunked attention")
    discovery = Discovery(
        models=(
            model("here"),
            model("new"),
            model("large", record=model_record("large", weights_bytes=40 * GIB)),
            model("broken", fault="incomplete", record=None),
            model("gguf", kind="GGUF"),
        )
    )
    made = choices_of(discovery, [registered, unfit], fits)
    told = [(choice.record.name, choice.is_registered, choice.tells_tools) for choice in made]
    assert told == [("here", True, True), ("new", False, True), ("gguf", False, False)]
    assert {choice.context_tokens for choice in made} == {fits(registered).max_context_tokens}


def test_advice_without_discovery_is_refused_with_the_way(capsys):
    assert run(["models", "--for", "chat"]) == 2
    assert "--discover" in capsys.readouterr().err
