"""How a conversion that has not been done looks to a person."""

from hotseat.cli.terminal.output import note, print_facts, print_table, size
from hotseat.protocol.conversions import SEEN_ERROR, ConversionPlan


def render_conversion(plan: ConversionPlan) -> None:
    """Sizes, what each stored type becomes, and by how much values change."""
    print_facts(
        [
            ("file", plan.source),
            ("architecture", plan.architecture),
            ("weights", f"{size(plan.stored_bytes)} -> {size(plan.size_bytes)}"),
            ("free", size(plan.free_bytes)),
            ("chat template", "" if plan.has_template else "none in the file"),
        ]
    )
    rows = [
        (
            change.stored,
            change.becomes,
            str(change.tensors),
            size(change.stored_bytes),
            size(change.size_bytes),
            f"{change.error:.2%}" if change.error >= SEEN_ERROR else "as it is",
        )
        for change in plan.types
    ]
    print_table(("type", "becomes", "tensors ", "stored ", "size ", "error "), rows)
    note("error: RMS of what changes over RMS of the values; a folder in MLX format needs no copy")
