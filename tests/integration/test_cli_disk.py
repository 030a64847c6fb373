"""`hotseat disk`, `hotseat kv` and what an import says of stored contexts: the real program."""

import json

import pytest
from tests.support.daemons.commands import cli, cli_json
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.models.tiny_models import make_tiny, register_tiny

TEXT = "The keeper of the lighthouse wrote down the weather of each day and the ships that came. "


def ask(client, model, session, text=TEXT * 8):
    messages = [{"role": "user", "content": text}]
    return client.generate(model, append=messages, session=session, max_tokens=4).result()


@pytest.fixture(scope="module")
def daemon():
    """A session of each of two models on disk: one with blocks and a tail, one with snapshots.

    Every test leaves both behind, though not all of their KV.
    """
    made = LiveDaemon()
    register_tiny(made.home, "a", "llama", seed=1)
    register_tiny(made.home, "hybrid", "falcon_h1", seed=2)
    with made:
        client = made.client()
        ask(client, "hybrid", "h")
        ask(client, "a", "s")
        client.swap("hybrid")
        yield made


def kv_files(daemon, kind="*"):
    return list((daemon.home / "kv").glob(f"*/{kind}/**/*.kv"))


def row_of(report, model):
    return next(row for row in report["tags"] if row["models"] == [model])


def became_cold(daemon):
    _code, out, _err = cli(daemon, "events", "--since", "0", "--topic", "kv.became_cold", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    return [line for line in lines if line.get("name") == "kv.became_cold"]


def import_again(daemon, seed):
    make_tiny(daemon.home / "src" / "a", "llama", seed=seed)
    code, out, err = cli(daemon, "import", str(daemon.home / "src" / "a"), "--name", "a", "--json")
    assert code == 0, err
    (said,) = [line for line in err.splitlines() if "become cold" in line]
    return json.loads(out), said


def test_disk_counts_files_of_every_kind_by_tag(daemon):
    code, report = cli_json(daemon, "disk")
    assert (code, report["running"]) == (0, True)
    own, hybrid = row_of(report, "a"), row_of(report, "hybrid")
    assert own["blocks"] + hybrid["blocks"] == len(kv_files(daemon, "blocks")) > 0
    assert (own["tails"], own["snapshots"]) == (1, 0)
    assert hybrid["snapshots"] == len(kv_files(daemon, "snapshots")) >= 2
    code, shown, _err = cli(daemon, "disk")
    assert code == 0
    assert "SNAPSHOTS" in shown


def test_verify_names_a_damaged_file_and_says_so_by_its_exit_code(daemon):
    client = daemon.client()
    before = set(kv_files(daemon))
    ask(client, "a", "spoilt", "Only to be damaged. " * 40)
    client.swap("hybrid")
    assert cli_json(daemon, "kv", "verify")[1]["damaged"] == []
    file = max(set(kv_files(daemon, "blocks")) - before)
    data = bytearray(file.read_bytes())
    data[-70] ^= 1
    file.write_bytes(data)
    code, shown, err = cli(daemon, "kv", "verify")
    assert (code, "Traceback" in err) == (1, False)
    assert file.name in shown
    assert not file.exists()
    client.delete_session("a", "spoilt")
    assert set(kv_files(daemon)) <= before


def test_removed_session_leaves_no_byte_though_its_history_was_replaced(daemon):
    client = daemon.client()
    before = set(kv_files(daemon))
    ask(client, "a", "gone", "Nobody else says this. " * 40)
    client.replace_session("a", "gone", [{"role": "user", "content": "Something else. " * 60}])
    ask(client, "a", "gone", "And then?")
    client.swap("hybrid")
    assert len(set(kv_files(daemon)) - before) > 1
    code, removed = cli_json(daemon, "sessions", "rm", "a", "gone")
    assert (code, removed["removed_bytes"] > 0) == (0, True)
    assert set(kv_files(daemon)) <= before


def test_home_without_a_daemon_is_verified_and_rebuilt_and_imports_say_the_same(daemon):
    before = cli_json(daemon, "disk")[1]
    sessions = [view.tokens for view in daemon.client().sessions()]
    daemon.stop()
    code, report = cli_json(daemon, "disk")
    assert (code, report) == (3, {"running": False})
    assert cli_json(daemon, "kv", "verify")[1]["files"] == len(kv_files(daemon))
    code, answer = cli_json(daemon, "kv", "rebuild")
    own, hybrid = row_of(before, "a"), row_of(before, "hybrid")
    assert (code, answer["rebuilt"]["sessions"]) == (0, 2)
    assert answer["rebuilt"]["snapshots"] == hybrid["snapshots"]
    assert answer["rebuilt"]["tails"] == own["tails"]
    said = import_again(daemon, seed=7)[1]
    assert said.startswith("replacing a: its stored contexts become cold: 1 session, ")
    daemon.start()
    assert [view.tokens for view in daemon.client().sessions()] == sessions


def test_import_of_another_model_under_a_name_says_before_what_becomes_cold(daemon):
    client = daemon.client()
    ask(client, "a", "s")
    client.swap("hybrid")
    before = row_of(cli_json(daemon, "disk")[1], "a")
    record, said = import_again(daemon, seed=8)
    assert said.startswith("replacing a: its stored contexts become cold: 1 session, ")
    report = cli_json(daemon, "disk")[1]
    usable = {row["tag"]: row["usable"] for row in report["tags"] if "a" in row["models"]}
    assert usable[before["tag"]] is False
    assert usable.get(record["tag"], True)
    wait_for(lambda: cli_json(daemon, "kv", "gc", "--dry-run")[1]["files"], what="files at rest")
    told = {event["facts"]["tag"]: event["facts"]["sessions"] for event in became_cold(daemon)}
    assert told[before["tag"]] == 1
    code, gone = cli_json(daemon, "kv", "gc")
    assert (code, gone["cold_sessions"]) == (0, ["a/s"])
    assert list((daemon.home / "kv" / before["tag"]).rglob("*.kv")) == []
