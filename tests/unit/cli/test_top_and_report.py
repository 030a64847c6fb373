"""The live screen and the page of a recording: what they show, that they fit, what they refuse."""

import io

import msgspec
import pytest
from lxml import etree
from msgspec.structs import replace
from rich.console import Console
from tests.support.peers.fake_views import status_view
from tests.support.peers.mac_host import PAGE, mac_host

from hotseat.cli.recording.file import Recording, json_line, read_recording, started_line
from hotseat.cli.recording.report_page import page, report_facts, write_report
from hotseat.cli.recording.report_svg import picture, runs, thinned
from hotseat.cli.terminal.memory_bars import CLASSES, shares
from hotseat.cli.views.top import TopState, render_top
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.replies import Event
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.telemetry import SAMPLED, Sample
from hotseat.protocol.views import WhyView

STREAMED = StreamedView(
    mode="experts", held=53, of=128, resident_bytes=9 * GIB, step_bytes=960 * MIB
)
SVG = "{http://www.w3.org/2000/svg}"


def sample(number, **fields):
    """Half weights, an eighth contexts, the rest free, of 16 GiB."""
    at = 1_700_000_000 + number * 0.2
    told = {
        "phase": "ready",
        "model": "qwen",
        "total_bytes": 16 * GIB,
        "weights_bytes": 8 * GIB,
        "live_kv_bytes": 2 * GIB,
        "free_bytes": 6 * GIB,
    }
    return Sample(at=at, **(told | fields))


def swap(number, client="agent<1>"):
    facts = {
        "from": "a",
        "to": "qwen",
        "total_s": 1.5,
        "bytes_written": MIB,
        "cause": {"client": client},
    }
    return Event(seq=1, at=1_700_000_000 + number * 0.2, name="swap.finished", facts=facts)


def told(item):
    return Event(seq=1, at=item.at, name=SAMPLED, facts=msgspec.to_builtins(item))


@pytest.fixture
def recording():
    samples = [
        *(sample(n, phase="loading", weights_bytes=0, free_bytes=14 * GIB) for n in range(5)),
        *(sample(n, offloaded_bytes=MIB, os_swapped_out_bytes=2 * MIB) for n in range(5, 20)),
    ]
    return Recording(samples=tuple(samples), events=(swap(5),))


def screen(state, width=80, **options):
    console = Console(width=width, height=24, no_color=True, record=True, file=io.StringIO())
    console.print(render_top(state, width, **options))
    return console.export_text().splitlines()


def full_state():
    state = TopState(
        swaps=[
            WhyView(
                at=1.0,
                outcome="finished",
                origin="a" * 40,
                target="b" * 40,
                client="c" * 60,
                request_id="r",
                model_asked="b",
                total_s=1.0,
            )
        ]
        * 9
    )
    for number in range(300):
        state.add(sample(number, tokens_per_s=float(number), running=3, waiting=2, suspended=1))
    return state


def test_screen_fits_into_a_small_terminal():
    lines = screen(full_state())
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_screen_says_what_of_a_model_is_in_memory_and_still_fits():
    state = full_state()
    state.status = replace(status_view("one", 1), streamed=STREAMED)
    lines = screen(state)
    assert lines[1].strip() == "53 of 128 experts a layer in memory, 960.0 MiB read a token at most"
    assert len(lines) <= 24


def test_screen_tells_classes_by_letters_without_colours():
    bar = screen(full_state(), blocks=False)[1]
    assert bar == "W" * 40 + "K" * 10 + "." * 30


def test_screen_names_seat_queue_and_causes():
    text = "\n".join(screen(full_state()))
    for part in ("ready  qwen", "3 running, 2 waiting (1 suspended)", "8.0 GiB", "ccc"):
        assert part in text


def test_sample_that_comes_twice_is_shown_once():
    state = TopState()
    state.add(sample(1))
    state.add(sample(1))
    assert len(state.samples) == 1


@pytest.mark.parametrize("width", [20, 33, 80, 81])
def test_bar_is_exactly_as_wide_as_asked(width):
    assert sum(cells for _, cells in shares(sample(0), width)) == width


def test_picture_has_stack_bands_and_separate_lines(recording):
    root = etree.fromstring(picture(recording.samples, recording.events))
    stacked = [e.get("class") for e in root.iter(f"{SVG}polygon")]
    assert stacked == [shade.attribute for shade in CLASSES]
    lines = {e.get("class") for e in root.iter(f"{SVG}polyline")}
    assert {"os_swapped_out_bytes", "os_swapped_in_bytes", "offloaded_bytes"} <= lines
    bands = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "phase"]
    assert [band[0].text for band in bands] == ["loading qwen", "ready qwen"]


def test_stack_reaches_the_top_of_the_memory(recording):
    root = etree.fromstring(picture(recording.samples, recording.events))
    *_, free = root.iter(f"{SVG}polygon")
    rows = [float(point.split(",")[1]) for point in free.get("points").split()]
    assert min(rows) == pytest.approx(60.0)


def test_page_needs_nothing_from_outside_and_escapes_names(recording):
    text = page(recording)
    assert "<script" not in text and "src=" not in text and "@import" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "agent<1>" not in text and "agent&lt;1&gt;" in text


def test_page_of_a_mac_has_its_pages_by_class(recording):
    pages = [mac_host(wire_count=held * GIB // PAGE).pages() for held in (2, 9, 3)]
    samples = [sample(20 + number, pages=found) for number, found in enumerate(pages)]
    text = page(Recording(samples=recording.samples + tuple(samples), events=()))
    row = next(line for line in text.splitlines() if "Pages of macOS" in line)
    cells = "".join(f'<td class="n">{held}.0 GiB</td>' for held in (2, 2, 9, 3))
    assert f"<td>wired</td>{cells}" in row
    assert "Pages of macOS" not in page(recording)


def test_page_counts_errors_of_the_gpu_where_there_were_any(recording):
    samples = (*recording.samples, sample(20, gpu_errors=2), sample(21, gpu_errors=3))
    cells = '<td>errors of the GPU since the daemon\'s start</td><td class="n">3</td>'
    assert cells in page(Recording(samples=samples, events=()))
    assert "GPU" not in page(recording)


def test_thinning_loses_no_bytes():
    samples = [sample(n, offloaded_bytes=1) for n in range(4001)]
    few = thinned(samples)
    assert len(few) <= 1500
    assert sum(entry.offloaded_bytes for entry in few) == 4001


def test_runs_end_where_the_next_phase_begins(recording):
    (loading, end), (ready, _) = runs(recording.samples)
    assert (loading.phase, ready.phase) == ("loading", "ready")
    assert end == ready.at


def test_recording_is_read_as_it_was_written(tmp_path, recording):
    file = tmp_path / "r.jsonl"
    items = [*map(told, recording.samples), *recording.events]
    file.write_bytes(started_line() + b"".join(map(json_line, items)) + b'{"seq": 1, "at"')
    assert read_recording(file) == recording
    write_report(recording, tmp_path / "r.html")
    facts = report_facts(recording, tmp_path / "r.html")
    assert (facts.samples, facts.swaps, facts.seconds) == (20, 1, 3.8)


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"a": 1}\n', b"[1]\n"])
def test_file_that_is_no_recording_is_refused_with_the_way_out(tmp_path, content):
    file = tmp_path / "r.jsonl"
    file.write_bytes(content)
    with pytest.raises(HotseatError, match="hotseat record"):
        read_recording(file)


def test_damaged_line_in_the_middle_is_named(tmp_path, recording):
    file = tmp_path / "r.jsonl"
    file.write_bytes(started_line() + b"{nonsense\n" + json_line(told(recording.samples[0])))
    with pytest.raises(HotseatError, match="line 2"):
        read_recording(file)


def test_recording_without_samples_is_refused(tmp_path):
    with pytest.raises(HotseatError, match="no samples"):
        write_report(Recording(samples=(), events=()), tmp_path / "r.html")
