"""Command line of the library: JSON lines on stdout and nothing else there.

    python -m hotseat.library import SOURCE|ollama:NAME --home HOME [--name N] [--licence TEXT]
        [--context N] [--adapter FOLDER] [--bits 4|6|8] [--group-size 32|64|128] [--keep]
        [--dry-run]
    python -m hotseat.library inspect FOLDER
    python -m hotseat.library discover [--root DIR]...
    python -m hotseat.library verify RECORD
    python -m hotseat.library pull REPO[@REV] [--file NAME.gguf] [--dry-run]
    python -m hotseat.library fetch --cache DIR [--without-gemma]
    python -m hotseat.library large FOLDER

Writes `LibraryLine`s: steps, then a result (exit 0) or an error (exit 2). What libraries print goes
to stderr.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from hotseat.library.ollama_store import PREFIX, find_stored, ollama_store
from hotseat.library.own_stdout import take_stdout
from hotseat.library.progress import OnProgress
from hotseat.library.stated import NOTHING_STATED
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.process_lines import LibraryFailure, LibraryLine, LibraryStep

_EXIT_ERROR: Final = 2
_EXIT_INTERRUPTED: Final = 130
_FROM_OLLAMA: Final = (
    "from Ollama's store, which stays as it is; the chat template is the one in the file: Ollama's "
    "is in a language of its own"
)


class _Lines:
    """The only way to the real stdout."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: LibraryLine) -> None:
        """One JSON object on one line, seen at once by a reader of the pipe."""
        self._stream.write(json.dumps(msgspec.to_builtins(line, enc_hook=str)) + "\n")
        self._stream.flush()

    def progress(self, phase: str, percent: float) -> None:
        """An `OnProgress`."""
        self.write(LibraryLine(progress=LibraryStep(phase=phase, percent=percent)))

    def fail(self, code: str, message: str, facts: dict[str, Any]) -> None:
        """The line that stands for a result."""
        failure = LibraryFailure(code=code, message=message, facts=facts)
        self.write(LibraryLine(error=failure))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    options = _parser().parse_args(arguments)
    os.umask(0o077)
    lines = _Lines(take_stdout())
    command: Callable[[argparse.Namespace, OnProgress], LibraryLine] = options.command
    try:
        last = command(options, lines.progress)
    except HotseatError as error:
        lines.fail(error.code, error.message, error.facts)
        return _EXIT_ERROR
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        return _EXIT_ERROR
    except Exception as error:  # noqa: BLE001 - task root: a defect becomes a typed error
        traceback.print_exc()
        text = f"import failed by a defect ({type(error).__name__}: {error}); see the log"
        lines.fail("internal", text, {})
        return _EXIT_ERROR
    lines.write(last)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hotseat.library", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    importing = commands.add_parser("import", help="register a GGUF file or an MLX folder")
    importing.add_argument("source")
    importing.add_argument("--home", type=Path, required=True)
    importing.add_argument("--models", type=Path, help="where models lie, if not in the home")
    importing.add_argument("--name")
    importing.add_argument("--licence", default="")
    importing.add_argument("--context", type=int, help="shorter context in tokens")
    importing.add_argument("--adapter", type=Path, help="folder of a LoRA adapter")
    importing.add_argument("--bits", type=int, choices=(4, 6, 8), help="of quantised weights")
    importing.add_argument("--group-size", type=int, choices=(32, 64, 128))
    importing.add_argument("--keep", action="store_true", help="keep the codes that MLX has")
    importing.add_argument("--dry-run", action="store_true", help="only say what would be written")
    importing.set_defaults(command=_import)
    inspecting = commands.add_parser("inspect", help="read configuration and weight headers")
    inspecting.add_argument("folder", type=Path)
    inspecting.set_defaults(command=_inspect)
    discovering = commands.add_parser("discover", help="list models that are on this machine")
    discovering.add_argument("--root", type=Path, action="append", default=[])
    discovering.set_defaults(command=_discover)
    verifying = commands.add_parser("verify", help="digest the files of a record again")
    verifying.add_argument("record", type=Path)
    verifying.set_defaults(command=_verify)
    pulling = commands.add_parser("pull", help="fetch a repository of the hub")
    pulling.add_argument("repository")
    pulling.add_argument("--file", default="", help="one GGUF file of it")
    pulling.add_argument("--dry-run", action="store_true")
    pulling.set_defaults(command=_pull)
    fetching = commands.add_parser("fetch", help="get the models that the demo uses")
    fetching.add_argument("--cache", type=Path, required=True)
    fetching.add_argument("--without-gemma", action="store_true")
    fetching.set_defaults(command=_fetch)
    making = commands.add_parser("large", help="write the random model of `demo --too-large`")
    making.add_argument("folder", type=Path)
    making.set_defaults(command=_large)
    return parser


def _large(options: argparse.Namespace, on_progress: OnProgress) -> LibraryLine:
    from hotseat.library.selftest.models import LARGE, write_model  # noqa: PLC0415 - costs seconds

    on_progress("drawing weights", 0.0)
    write_model(options.folder, 0, LARGE)
    return LibraryLine()


def _import(options: argparse.Namespace, on_progress: OnProgress) -> LibraryLine:
    from hotseat.library.gguf.forms import Wish  # noqa: PLC0415 - costs seconds
    from hotseat.library.importing import import_model, plan_import  # noqa: PLC0415

    on_progress("libraries", 100.0)
    source, stated = Path(options.source), NOTHING_STATED
    if options.source.startswith(PREFIX):
        stored = find_stored(options.source.removeprefix(PREFIX), ollama_store())
        source, stated = stored.blob, stored.stated
        options.name = options.name or stored.name
        on_progress(f"taking {stored.name} {_FROM_OLLAMA}", 0.0)
    wish = Wish.of(options.bits, options.group_size, keep=options.keep)
    if options.dry_run:
        return LibraryLine(conversion=plan_import(source, options.home, options.models, wish))
    record = import_model(
        source,
        options.home,
        options.name,
        on_progress,
        options.licence,
        options.context,
        options.adapter,
        options.models,
        wish,
        stated,
    )
    return LibraryLine(record=record)


def _inspect(options: argparse.Namespace, on_progress: OnProgress) -> LibraryLine:
    from hotseat.library.inspecting import inspect_folder  # noqa: PLC0415 - costs seconds

    on_progress("libraries", 100.0)
    return LibraryLine(inspected=inspect_folder(options.folder))


def _discover(options: argparse.Namespace, on_progress: OnProgress) -> LibraryLine:
    from hotseat.library.discovery.discovering import discover  # noqa: PLC0415 - the other's

    on_progress("looking", 0.0)
    return LibraryLine(discovery=discover(options.root))


def _verify(options: argparse.Namespace, on_progress: OnProgress) -> LibraryLine:
    from hotseat.library.verifying import verify_files  # noqa: PLC0415 - the other's

    return LibraryLine(checked=verify_files(options.record, on_progress))


def _pull(options: argparse.Namespace, on_progress: OnProgress) -> LibraryLine:
    from hotseat.library.pulling import (  # noqa: PLC0415 - costs seconds
        Wanted,
        drop_partial_files,
        plan_pull,
        pull,
    )

    wanted = Wanted.parse(options.repository, options.file)
    if options.dry_run:
        return LibraryLine(pull_plan=plan_pull(wanted))

    def leave(*_: object) -> None:
        """Threads that fetch would be waited for, until their files are whole."""
        drop_partial_files()
        os._exit(_EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
    return LibraryLine(pulled=pull(wanted, on_progress))


def _fetch(options: argparse.Namespace, on_progress: OnProgress) -> LibraryLine:
    from hotseat.library.samples import fetch_samples  # noqa: PLC0415 - the other command's

    samples = fetch_samples(options.cache, gemma=not options.without_gemma, on_progress=on_progress)
    return LibraryLine(samples=tuple(samples))


if __name__ == "__main__":
    sys.exit(main())
