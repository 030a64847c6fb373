"""Commands that show what happened: events, logs."""

import click

from hotseat.cli.home.connecting import connected


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@click.option("--since", type=click.IntRange(min=0), help="Only what came after this number.")
@click.option("--topic", multiple=True, help="Only events whose name begins so; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def events(*, follow: bool, since: int | None, topic: tuple[str, ...], as_json: bool) -> None:
    """Show what the daemon still knows of what happened."""
    from hotseat.cli.views.event import follow_events, kept_events, print_event

    with connected() as client:
        for event in kept_events(client, since, topic):
            print_event(event, as_json=as_json)
            since = event.seq
        if follow:
            for item in follow_events(client, since, topic):
                print_event(item, as_json=as_json)


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@click.option("--lines", "-n", type=click.IntRange(min=0), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they are stored.")
def logs(*, follow: bool, lines: int, as_json: bool) -> None:
    """Show the daemon's log; it need not run."""
    from hotseat.cli.home.log_reader import log_path, show_log

    show_log(log_path(), lines, follow=follow, as_json=as_json)
