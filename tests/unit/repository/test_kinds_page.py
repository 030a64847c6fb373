"""The table of docs/kinds.md is that of the results that were kept; `--write` draws it again."""

import re
import sys
from pathlib import Path

from benchmarks.kinds.page import drawn
from benchmarks.kinds.result import model_kinds, read_matrix
from tests.support.models.kinds.table import ARCHITECTURES

PAGE = Path(__file__).parents[3] / "docs/kinds.md"
BLOCK = re.compile(r"(<!-- kinds: begin [^\n]*-->\n).*?(<!-- kinds: end -->)", re.DOTALL)


def written():
    table = drawn(read_matrix())
    return BLOCK.sub(lambda found: f"{found[1]}{table}\n{found[2]}", PAGE.read_text("utf-8"))


def test_page_is_drawn_from_the_results():
    assert PAGE.read_text("utf-8") == written()


def test_results_are_those_of_every_kind_that_is_tried():
    assert [one.kind for one in read_matrix().kinds] == [one.kind for one in ARCHITECTURES]


def test_every_kind_of_mlx_lm_is_tried_or_named_as_untried():
    matrix = read_matrix()
    assert {one.kind for one in matrix.kinds} | set(matrix.untried) == model_kinds()


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(written(), "utf-8")
