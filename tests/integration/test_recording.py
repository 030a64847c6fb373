"""`record` and `report` with a daemon that swaps: real samples, a page that needs nothing else."""

import json
import signal
import subprocess

import pytest
from lxml import etree
from tests.support.daemons.commands import HOTSEAT
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import stub_daemon


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The lines of a recording of two swaps and a request, ended by Ctrl-C, and the file."""
    file = tmp_path_factory.mktemp("record") / "run.jsonl"
    with stub_daemon("ab", load_s=0.3) as daemon:
        recorder = subprocess.Popen(
            [*HOTSEAT, "record", "--out", str(file)],
            env=daemon.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: count_of(file, "telemetry.sampled") >= 1, what="a sample")
        with daemon.client() as client:
            client.swap("a")
            client.generate("a", prompt="x" * 300, session="s", max_tokens=5).result()
            client.swap("b")
        wait_for(lambda: count_of(file, "swap.finished") == 2, what="both swaps")
        recorder.send_signal(signal.SIGINT)
        _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 0, said
    return said, lines_of(file), file


def lines_of(file):
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def count_of(file, name):
    return sum(line.get("name") == name for line in lines_of(file))


def test_recording_has_samples_of_every_phase_it_saw_and_the_swaps(recorded):
    said, lines, _ = recorded
    samples = [line["facts"] for line in lines if line.get("name") == "telemetry.sampled"]
    assert f"{len(samples)} samples" in said
    assert {"a", "b"} & {sample["model"] for sample in samples}
    assert all(sample["total_bytes"] > 0 for sample in samples)
    swaps = [line["facts"] for line in lines if line.get("name") == "swap.finished"]
    assert [swap["to"] for swap in swaps] == ["a", "b"]
    times = [line["at"] for line in lines if line.get("name") == "telemetry.sampled"]
    assert times == sorted(times)


def test_report_draws_it_into_one_page(recorded, tmp_path):
    _, lines, file = recorded
    page = tmp_path / "page.html"
    done = subprocess.run(
        [*HOTSEAT, "report", str(file), "--out", str(page), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    samples = sum(line.get("name") == "telemetry.sampled" for line in lines)
    assert facts["swaps"] == 2 and facts["samples"] == samples
    tree = etree.fromstring(page.read_bytes(), etree.HTMLParser())
    assert tree.findall(".//{*}svg")
    linked = [value for node in tree.iter() for value in (node.get("src"), node.get("href"))]
    assert not [value for value in linked if value and not value.startswith("#")]


def test_recording_for_a_time_ends_by_itself_and_goes_to_stdout(recorded):
    del recorded
    with stub_daemon("a") as daemon:
        done = subprocess.run(
            [*HOTSEAT, "record", "--for", "2s"],
            env=daemon.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(line.get("name") == "telemetry.sampled" for line in lines)


def test_file_that_is_no_recording_is_refused_in_a_sentence(tmp_path):
    file = tmp_path / "other.jsonl"
    file.write_text("{}\n")
    done = subprocess.run(
        [*HOTSEAT, "report", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert str(file) in done.stderr and "Traceback" not in done.stderr
