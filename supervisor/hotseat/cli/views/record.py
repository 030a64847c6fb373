"""How a newly registered model looks to a person."""

from hotseat.cli.terminal.output import count, note, print_facts, size
from hotseat.protocol.model import ModelRecord


def render_record(record: ModelRecord) -> None:
    """What was registered, and how to use it."""
    print_facts(
        [
            ("registered", record.name),
            ("architecture", f"{record.architecture}, {record.quantisation}"),
            ("parameters", count(record.parameters)),
            ("weights", size(record.weights_bytes)),
            ("context", f"{count(record.context_tokens)} tokens"),
            ("KV per token", size(record.kv_bytes_per_token)),
            ("append", record.template.mode),
            ("rewrites", ", ".join(record.template.folds).replace("_", " ")),
            ("licence", record.source.licence),
            ("folder", record.path),
            ("adapter", record.adapter),
        ]
    )
    if record.unfit_reason:
        note(f"it cannot be seated: {record.unfit_reason}")
    else:
        note(f"try `hotseat run {record.name} PROMPT`")
