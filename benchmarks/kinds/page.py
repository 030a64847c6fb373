"""The table of docs/kinds.md, drawn from the results that were kept. Pure."""

from benchmarks.kinds.result import KindResult, Matrix

HEADS = (
    *("kind", "models", "attention", "rows together", "exact append", "same tokens after a swap"),
    *("cut points", "tools", "reasoning", "adapters"),
)


def drawn(matrix: Matrix) -> str:
    """The part of the page that the results decide."""
    whole = [one for one in matrix.kinds if one.goes_on]
    told = f"{len(whole)} of {len(matrix.kinds)} kinds go on with the same tokens"
    lines = [
        f"With mlx-lm {matrix.mlx_lm}: {told}.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
        *(_row(one) for one in matrix.kinds),
        "",
        *_failures(matrix),
        f"`untried`: {', '.join(f'`{kind}`' for kind in matrix.untried)}.",
    ]
    return "\n".join(lines)


def _row(one: KindResult) -> str:
    forced = f"`{one.tools}`{'' if one.is_forced else ', not forced'}" if one.tools else "-"
    cells = (
        f"`{one.kind}`",
        one.models,
        one.attention or "-",
        _word(one.rows),
        _word(one.appends),
        _word(one.goes_on),
        one.cuts or "-",
        forced,
        "yes" if one.reasoning else "-",
        _word(one.adapters),
    )
    return "| " + " | ".join(cells) + " |"


def _word(is_so: object) -> str:
    return "yes" if is_so else "no"


def _failures(matrix: Matrix) -> list[str]:
    failed = [f"- `{one.kind}`: {one.failure}" for one in matrix.kinds if one.failure]
    return ["What failed, or is refused:", "", *failed, ""] if failed else ["Nothing failed.", ""]
