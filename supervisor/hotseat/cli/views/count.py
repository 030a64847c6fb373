"""How the size of a prompt is asked for and looks to a person."""

from hotseat.cli.terminal.output import count, print_facts, printable
from hotseat.client import Client
from hotseat.protocol.views import CountView


def count_turn(
    client: Client, model: str, prompt: str, session: str | None, *, render: bool
) -> CountView:
    """As `hotseat run` would send it: a user turn, or text for a model without a template."""
    is_raw = any(view.name == model and view.append == "raw" for view in client.models())
    turn = prompt if is_raw else [{"role": "user", "content": prompt}]
    if session is not None:
        return client.count(model, session=session, append=turn, render=render)
    if isinstance(turn, str):
        return client.count(model, prompt=turn, render=render)
    return client.count(model, messages=turn, render=render)


def render_count(view: CountView) -> None:
    """The figures, then the text if it came."""
    fit = "" if view.kv_fit_tokens is None else f", {count(view.kv_fit_tokens)} are taken now"
    print_facts(
        [
            ("model", view.model),
            ("tokens", f"{count(view.tokens)}, {count(view.stored_tokens)} of them stored"),
            ("context", f"{count(view.context_tokens)}{fit}"),
            ("fits", "yes" if view.fits else "no"),
            ("counted by", view.counted_by),
        ]
    )
    if view.text is not None:
        print(f"\n{printable(view.text)}")
