"""A hang or a crash of an entry is a line, and nothing is left running."""

from pathlib import Path

import pytest
from tests.support.daemons.live_daemon import wait_for

from hotseat.cli.selftest import runner as runner_module
from hotseat.cli.selftest.file import ReportFile, read_report
from hotseat.cli.selftest.rules.entries import Entry
from hotseat.cli.selftest.rules.orders import LookBack
from hotseat.cli.selftest.rules.results import Report
from hotseat.cli.selftest.runner import Runner
from hotseat.supervisor.machine.processes import is_alive

REPORT = Report(hotseat="1", began_at="", scale="tiny", state="running", heartbeat_at=0.0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs entries against children that do as they are told; the results by name."""
    monkeypatch.setattr(runner_module, "_MEASURES", "tests.support.selftest_child")

    def go(*whats, limit_s=60.0, tell=lambda _result: None, shares=False, needs_models=False):
        entries = [
            Entry(
                name=f"{number} {what}",
                measures="m",
                expected="e",
                orders=(LookBack(folder=what, own=str(tmp_path / "pid")),) * (1 + what.count("+")),
                limit_s=limit_s,
                needs_models=needs_models,
            )
            for number, what in enumerate(whats)
        ]
        file = ReportFile(tmp_path / "r.json", REPORT)
        monkeypatch.setattr(runner_module, "judge", judge_by_rule_of_last_run)
        runner = Runner(file, tmp_path, {Path.home().name}, tell, shares_daemon=shares)
        runner.run(entries)
        return list(read_report(file.path).results)

    return go


def judge_by_rule_of_last_run(_entry, measured):
    from hotseat.cli.selftest.rules.verdicts import judge

    return judge("last run", measured)


def grandchild(tmp_path):
    return int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))


def test_crash_is_a_line_with_its_last_words_and_the_next_entry_runs(run):
    crashed, after = run("crash", "fine")
    assert crashed.verdict == "failed"
    assert crashed.reason.startswith("the process ended with code 3: RuntimeError: no good, see")
    assert "/" not in crashed.reason
    assert crashed.figures[0].samples == (1.0,)
    assert after.verdict == "ok"


def test_hang_is_a_line_and_takes_all_it_started_with_it(run, tmp_path):
    hung, after = run("hang with a child", "fine", limit_s=3.0)
    assert (hung.verdict, hung.reason) == ("timed out", "not done after 3 s")
    assert hung.figures[0].samples == (1.0,)
    assert after.verdict == "ok"
    assert not is_alive(grandchild(tmp_path))


def test_process_that_an_entry_leaves_behind_is_ended_with_it(run, tmp_path):
    assert [one.verdict for one in run("fine but for a child")] == ["ok"]
    assert not is_alive(grandchild(tmp_path))


def test_interrupt_keeps_what_is_known_and_leaves_nothing_running(run, tmp_path, monkeypatch):
    put = ReportFile.put

    def interrupt(self, result):
        put(self, result)
        if result.verdict == "running" and result.figures:
            raise KeyboardInterrupt

    monkeypatch.setattr(ReportFile, "put", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("hang with a child", "fine")
    (found,) = read_report(tmp_path / "r.json").results
    assert (found.verdict, found.figures[0].samples) == ("interrupted", (1.0,))
    assert not is_alive(grandchild(tmp_path))


def test_entry_under_way_is_in_the_file_with_what_is_known(run, tmp_path, monkeypatch):
    seen = []
    put = ReportFile.put

    def watch(self, result):
        put(self, result)
        seen.append(read_report(self.path).results[-1])

    monkeypatch.setattr(ReportFile, "put", watch)
    run("fine")
    assert [(one.verdict, len(one.figures)) for one in seen] == [
        ("running", 0),
        ("running", 1),
        ("ok", 0),
    ]


def test_orders_of_an_entry_add_their_samples(run):
    (found,) = run("count ++")
    assert found.figures[0].samples == (1.0, 1.0, 1.0)


def test_entries_share_a_process_only_where_the_scale_says_so(run):
    together = run("count", "count", shares=True)
    assert together[0].facts == together[1].facts


def test_entries_have_a_process_each_by_default(run):
    apart = run("count", "count")
    assert apart[0].facts != apart[1].facts


def test_entry_without_the_models_it_needs_is_skipped(run):
    (found,) = run("fine", needs_models=True)
    assert (found.verdict, found.reason) == ("skipped", "there are no models to run it with")
