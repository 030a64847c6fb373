"""What numbers mean, entry by entry. A rule looks at what was measured and at nothing else."""

from collections.abc import Callable
from typing import Final

from hotseat.cli.selftest.rules.results import Judged, quantile
from hotseat.protocol.limits import MIB
from hotseat.protocol.selftest import Measured

MIDDLE: Final = 0.5
MOST: Final = 0.99
GROWTH_SHARE: Final = 0.05
"""By so much a footprint may miss what was touched."""
PSUTIL_SHARE: Final = 0.05
PSUTIL_BYTES: Final = 256 * MIB
"""Linux: the two counts are taken one after the other on a machine that goes on living."""
FLUSH_MS: Final = 30.0
COMMIT_MS: Final = 80.0
"""A commit is two flushes at most; 18 ms each on the slowest Mac that was measured."""
WRITE_MIB_PER_S: Final = 100.0
READ_MIB_PER_S: Final = 200.0
HELLO_S: Final = 15.0
NOTICED_MS: Final = 100.0
ORPHAN_S: Final = 12.0
ORPHAN_SOON_S: Final = 2.0
ROUND_TRIP_MS: Final = 5.0
ROUND_TRIP_MOST_MS: Final = 50.0
FIRST_MS: Final = 2000.0
DECODE_SHARE: Final = 0.9
PREFILL_SHARE: Final = 0.8
REST_FACTOR: Final = 2.0
REST_MS: Final = 100.0
OWN_SWAP_S: Final = 3.0
"""What a swap may take beside reading weights."""
NOT_BACK_BYTES: Final = 512 * MIB
OK: Final = Judged("ok")


class Numbers:
    """What was measured, by name; the entry is `unknown` where a number is missing."""

    def __init__(self, measured: Measured) -> None:
        self._samples = {figure.name: figure.samples for figure in measured.figures}
        self._facts = {fact.name: fact.value for fact in measured.facts}

    def at(self, name: str, share: float = MIDDLE) -> float:
        """A quantile of the samples; KeyError if there are none."""
        samples = self._samples.get(name)
        if not samples:
            raise KeyError(name)
        return quantile(samples, share)

    def least(self, name: str) -> float:
        """The smallest sample."""
        return self.at(name, 0.0)

    def most(self, name: str) -> float:
        """The largest sample."""
        return self.at(name, 1.0)

    def last(self, name: str) -> float:
        """The sample that was taken last."""
        self.at(name)
        return self._samples[name][-1]

    def has(self, name: str) -> bool:
        """Whether there is a sample."""
        return bool(self._samples.get(name))

    def more_than_nothing(self, name: str) -> float:
        """The middle of what has to be divided by; KeyError for nothing."""
        found = self.at(name)
        if found <= 0:
            raise KeyError(name)
        return found

    def names(self, end: str) -> list[str]:
        """Figures whose names end so; KeyError if there are none."""
        found = [name for name in self._samples if name.endswith(end) and self.has(name)]
        if not found:
            raise KeyError(end.lstrip("_"))
        return found

    def fact(self, name: str) -> str:
        """Empty if it was not told."""
        return self._facts.get(name, "")


Rule = Callable[[Numbers], Judged]


def judge(entry: str, measured: Measured) -> Judged:
    """The verdict on an entry that came to its end."""
    if measured.skipped:
        return Judged("skipped", measured.skipped)
    if not measured.figures and not measured.facts:
        reason = measured.absent[0].reason if measured.absent else "nothing was measured"
        return Judged("not on this system" if measured.absent else "unknown", reason)
    try:
        return RULES[entry](Numbers(measured))
    except KeyError as missing:
        return Judged("unknown", f"{missing.args[0]} was not measured")


def _slow_above(numbers: Numbers, name: str, limit: float, share: float = MIDDLE) -> Judged:
    found = numbers.at(name, share)
    return OK if found <= limit else Judged("slow", f"{name} {found:.4g}, expected {limit:g}")


def _slow_below(numbers: Numbers, name: str, limit: float) -> Judged:
    found = numbers.at(name)
    return OK if found >= limit else Judged("slow", f"{name} {found:.4g}, expected {limit:g}")


def _first_bad(*found: Judged) -> Judged:
    """The first wrong one, else the first that is not ok."""
    wrong = [one for one in found if one.verdict == "wrong"]
    return next(iter(wrong), next((one for one in found if one is not OK), OK))


def _last_run(numbers: Numbers) -> Judged:
    if numbers.fact("earlier_run") != "never ended":
        return OK
    panics = numbers.last("panic_reports_since")
    if panics:
        return Judged("wrong", f"the system panicked under the earlier run, {panics:.0f} reports")
    if numbers.last("booted_since"):
        return Judged("wrong", "the machine started anew before the earlier run had ended")
    return Judged("unknown", "the earlier run was ended before its time")


def _machine(numbers: Numbers) -> Judged:
    if (numbers.fact("system"), numbers.fact("python_machine")) == ("Darwin", "x86_64"):
        return Judged("wrong", "Python is a build for Intel: MLX has no GPU there")
    if numbers.fact("protected_folder") == "yes":
        return Judged("wrong", "program or home lie in a folder that macOS lets no service read")
    return OK


def _crash_reports(numbers: Numbers) -> Judged:
    count = sum(numbers.last(name) for name in numbers.names("_since_begin"))
    return Judged("wrong", f"{count:.0f} new reports of crashes") if count else OK


def _memory(numbers: Numbers) -> Judged:
    total, available = numbers.last("total_bytes"), numbers.last("available_bytes")
    if not 0 < available <= total:
        return Judged("wrong", "available memory is not between nothing and all")
    if numbers.has("wired_bytes"):
        return OK  # psutil means something else on a Mac
    other = numbers.last("psutil_available_bytes")
    if abs(available - other) > PSUTIL_SHARE * total + PSUTIL_BYTES:
        return Judged("unknown", "available memory is not what psutil says")
    return OK


def _footprint(numbers: Numbers) -> Judged:
    touched = numbers.more_than_nothing("touched_bytes")
    for view in ("own", "outside"):
        grown = numbers.last(f"{view}_held_bytes") - numbers.last(f"{view}_before_bytes")
        if abs(grown - touched) > GROWTH_SHARE * touched:
            return Judged("wrong", f"{view} footprint grew by {grown / touched:.3f} of it")
    left = numbers.last("outside_after_bytes") - numbers.last("outside_before_bytes")
    if left > GROWTH_SHARE * touched:
        return Judged("unknown", f"{left / touched:.3f} of it did not come back")
    return OK


def _syncs(numbers: Numbers) -> Judged:
    is_mac = numbers.has("full_fsync_file_ms")
    return _slow_above(numbers, "full_fsync_file_ms" if is_mac else "fsync_file_ms", FLUSH_MS)


def _store(numbers: Numbers) -> Judged:
    if numbers.least("equal_share") < 1:
        return Judged("wrong", "what was read is not what was written")
    return _first_bad(
        _slow_below(numbers, "write_mib_per_s", WRITE_MIB_PER_S),
        _slow_below(numbers, "read_mib_per_s", READ_MIB_PER_S),
    )


def _processes(numbers: Numbers) -> Judged:
    orphan_s = numbers.most("orphan_gone_s")
    if orphan_s > ORPHAN_S:
        return Judged("wrong", f"a worker outlived its daemon by {orphan_s:.1f} s")
    return _first_bad(
        _slow_above(numbers, "kill_noticed_ms", NOTICED_MS, 1.0),
        _slow_above(numbers, "orphan_gone_s", ORPHAN_SOON_S, 1.0),
        _slow_above(numbers, "hello_s", HELLO_S),
    )


def _speed(numbers: Numbers) -> Judged:
    found = []
    for what, least in (("decode", DECODE_SHARE), ("prefill", PREFILL_SHARE)):
        bare = numbers.more_than_nothing(f"mlx_lm_{what}_tokens_per_s")
        share = numbers.at(f"engine_{what}_tokens_per_s") / bare
        text = f"{what} at {share:.2f} of mlx_lm, expected {least:g}"
        found.append(OK if share >= least else Judged("slow", text))
    return _first_bad(*found)


def _rest(numbers: Numbers) -> Judged:
    names = sorted(numbers.names("_s_rest_ms"), key=lambda name: float(name.split("_")[3]))
    base = numbers.at(names[0])
    limit = REST_FACTOR * base + REST_MS
    return _first_bad(*(_slow_above(numbers, name, limit) for name in names[1:]))


def _swaps(numbers: Numbers) -> Judged:
    if numbers.last("failed_swaps"):
        return Judged("wrong", f"{numbers.last('failed_swaps'):.0f} swaps failed")
    if numbers.has("wired_not_back_bytes"):
        left = numbers.most("wired_not_back_bytes")
        if left > NOT_BACK_BYTES:
            return Judged("unknown", f"{left / MIB:.0f} MiB stayed wired after 5 s")
    return _slow_above(numbers, "own_s", OWN_SWAP_S)


def _kills(numbers: Numbers) -> Judged:
    if numbers.least("resumed_share") < 1:
        return Judged("wrong", "an answer did not go on after its worker was killed")
    return _equal(numbers)


def _equal(numbers: Numbers) -> Judged:
    """Positions at which tokens that have to be equal differ first; -1 is none."""
    for name in numbers.names("_differs_at"):
        if numbers.most(name) >= 0:
            return Judged("wrong", f"{name} {numbers.most(name):.0f}")
    return OK


def _slots(numbers: Numbers) -> Judged:
    return (
        _equal(numbers) if numbers.last("compared_calls") else Judged("wrong", "no call was made")
    )


def _limits(numbers: Numbers) -> Judged:
    peak, forecast = numbers.last("peak_bytes"), numbers.more_than_nothing("forecast_bytes")
    text = f"the peak is {peak / forecast:.3f} of the forecast"
    return OK if peak <= forecast else Judged("wrong", text)


def _gpu(numbers: Numbers) -> Judged:
    if numbers.last("finished_share") < 1:
        return Judged("wrong", "the answer did not go on after the GPU error")
    if numbers.last("replaced_share") < 1:
        return Judged("wrong", "the worker was not replaced")
    return _equal(numbers)


def _churn(numbers: Numbers) -> Judged:
    failures = numbers.last("failed_requests")
    if failures:
        return Judged("wrong", f"{failures:.0f} requests failed")
    return OK if numbers.last("tokens") else Judged("wrong", "no token was made")


RULES: Final[dict[str, Rule]] = {
    "last run": _last_run,
    "machine": _machine,
    "memory": _memory,
    "models": lambda numbers: OK if numbers.least("weights_bytes") else Judged("wrong", "empty"),
    "footprint": _footprint,
    "syncs": _syncs,
    "store": _store,
    "commits": lambda numbers: _slow_above(numbers, "commit_ms", COMMIT_MS),
    "round trips": lambda numbers: _first_bad(
        _slow_above(numbers, "round_trip_ms", ROUND_TRIP_MS),
        _slow_above(numbers, "round_trip_ms", ROUND_TRIP_MOST_MS, MOST),
    ),
    "kernels": lambda numbers: _first_bad(
        _slow_above(numbers, "first_token_ms", FIRST_MS),
        _slow_above(numbers, "first_chunk_ms", FIRST_MS),
    ),
    "slots": _slots,
    "speed": _speed,
    "rest": _rest,
    "exactness": _equal,
    "memory limits": _limits,
    "processes": _processes,
    "kills": _kills,
    "swaps": _swaps,
    "gpu error": _gpu,
    "churn": _churn,
    "crash reports": _crash_reports,
}
