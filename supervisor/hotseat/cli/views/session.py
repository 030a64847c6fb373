"""How sessions look to a person."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hotseat.cli.terminal.output import count, duration, print_facts, print_table, printable, size
from hotseat.protocol.views import SessionChange, SessionView


def render_sessions(views: Sequence[SessionView]) -> None:
    """One row per session."""
    if not views:
        print("no sessions; make one with `hotseat run MODEL PROMPT --session NAME`")
        return
    now = time.time()
    print_table(
        ("MODEL", "SESSION", "STATE", "TURNS ", "TOKENS ", "ON SSD ", "SIZE ", "USED "),
        [
            (
                view.model,
                view.session,
                describe_state(view),
                count(view.turn),
                count(view.tokens),
                count(view.durable_tokens),
                size(view.bytes_on_disk),
                f"{duration(max(0.0, now - view.used_at))} ago",
            )
            for view in views
        ],
    )


def render_session(view: SessionView) -> None:
    """Facts, then the conversation."""
    print_facts(
        [
            ("model", view.model),
            ("session", f"{view.session}, {describe_state(view)}, {view.turn} turns"),
            ("tokens", f"{count(view.tokens)}, {count(view.durable_tokens)} of them on SSD"),
            ("agent", printable(view.agent) or "-"),
            ("on SSD", size(view.bytes_on_disk) + (", pinned" if view.pinned else "")),
            ("can go back to", _turns(view)),
        ]
    )
    for message in view.messages or ():
        print(f"\n[{message.get('role', '?')}]\n{printable(_content(message))}")


def describe_state(view: SessionView) -> str:
    """Where its KV is, and what its next turn will have to compute again."""
    state: str = view.state
    if view.prefill_tokens:
        state += ": prefill needed"
    if not view.persist:
        state += ", never on disk"
    return f"{state}, pinned" if view.pinned else state


def describe_change(change: SessionChange) -> str:
    """One line about a session that a verb changed."""
    origin = f" from {change.origin}" if change.origin else ""
    kept = f"{count(change.kept_tokens)} tokens" if change.kept_tokens else "to be rendered"
    return (
        f"{change.session} of {change.model}{origin}: turn {change.turn}, "
        f"{change.messages} messages, {kept}"
    )


def _turns(view: SessionView) -> str:
    """Turns it can be forked at and rewound to."""
    turns = [entry.turn for entry in view.turns or ()]
    if not turns:
        return ""
    if turns == list(range(turns[0], turns[-1] + 1)):
        return f"turns {turns[0]} to {turns[-1]}"
    return f"turns {', '.join(map(str, turns))}"


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))
