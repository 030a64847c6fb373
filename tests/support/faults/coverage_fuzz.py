"""A small coverage-guided fuzzer: inputs that reach new lines are kept and mutated again.

No dependency and no compiler: lines come from `sys.settrace`, for the modules that are named.
"""

import random
import sys
import time

_SPLICES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xc7\x00\x00")


class Fuzzer:
    """Calls `target(data)`; what it raises beside `expected` ends the run with the input."""

    def __init__(self, target, seeds, modules, expected, seed=0):
        self._target = target
        self._files = {sys.modules[name].__file__ for name in modules}
        self._expected = expected
        self._chance = random.Random(seed)
        self._lines = set()
        self._new = False
        self.corpus = []
        self.runs = 0
        for data in seeds:
            self._try(data)
            self.corpus.append(data)

    @property
    def lines(self):
        return len(self._lines)

    def run(self, seconds):
        """Fuzzes for so long; the number of inputs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data = self._mutate(self._chance.choice(self.corpus))
            if self._try(data):
                self.corpus.append(data)
        return self.runs

    def _try(self, data):
        self._new = False
        self.runs += 1
        sys.settrace(self._trace)
        try:
            self._target(data)
        except self._expected:
            pass
        except BaseException as error:
            sys.settrace(None)
            raise AssertionError(f"{type(error).__name__} escaped for {data!r}") from error
        finally:
            sys.settrace(None)
        return self._new

    def _trace(self, frame, _event, _argument):
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame, event, _argument):
        place = (frame.f_code.co_filename, frame.f_lineno, event)
        if place not in self._lines:
            self._lines.add(place)
            self._new = True
        return self._line

    def _mutate(self, data):
        chance = self._chance
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            at = chance.randrange(len(changed) + 1)
            match chance.randrange(6):
                case 0 if changed:
                    changed[at % len(changed)] ^= 1 << chance.randrange(8)
                case 1 if changed:
                    changed[at % len(changed)] = chance.randrange(256)
                case 2:
                    changed[at:at] = chance.choice(_SPLICES)
                case 3:
                    del changed[at : at + chance.randrange(1, 9)]
                case 4:
                    other = chance.choice(self.corpus)
                    begin = chance.randrange(len(other) + 1)
                    changed[at:at] = other[begin : begin + chance.randrange(1, 33)]
                case _:
                    changed[at:at] = chance.randbytes(chance.randrange(1, 9))
        return bytes(changed)
