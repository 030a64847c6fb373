"""Daemons with stub workers and registered models, and what the stub has to answer."""

import sqlite3
from contextlib import closing, contextmanager

from hotseat.protocol.errors import HotseatError
from tests.support.daemons.live_daemon import LiveDaemon, put_record
from tests.support.models.records import model_record
from tests.support.stub_worker.text import decode_token, encode_text, expected_tokens

QUIET = "[memory]\nreserve_bytes = 1\n"
"""Other programs on this machine must not decide whether a stub fits."""
WEIGHTS = 1_000_000


def register(daemon, *names, **fields):
    """Models of these names; the tag follows from the name, so that their output differs."""
    for name in names:
        put_record(daemon.home, stub_record(name, **fields))


def stub_record(name, **fields):
    return model_record(name, **({"tag": tag_of(name), "weights_bytes": WEIGHTS} | fields))


def tag_of(name):
    return (name.encode().hex() * 32)[:32]


@contextmanager
def stub_daemon(names="ab", settings="", daemon=None, **faults):
    """A running daemon with models `names`; `faults` are those of `stub_faults`."""
    daemon = daemon or LiveDaemon(stub=faults, settings=QUIET + settings)
    register(daemon, *names)
    with daemon:
        yield daemon


def expected(model, prompt, count):
    """Tokens the stub of `model` answers to a raw prompt."""
    record = stub_record(model)
    return tuple(expected_tokens(record.tag, encode_text(prompt), count, record.vocab_size))


def expected_text(model, prompt, count):
    return "".join(decode_token(token) for token in expected(model, prompt, count))


def serves(client, model, prompt="still there?", count=5):
    """True when a request of `model` is answered as it has to be."""
    done = client.generate(model, prompt=prompt, max_tokens=count).result()
    return done.tokens == expected(model, prompt, count)


def error_of(call, *args, **options):
    """The error that `call` raises; anything else fails the test."""
    try:
        result = call(*args, **options)
    except HotseatError as error:
        return error
    raise AssertionError(f"no error, but {result!r}")


def unfinished(home):
    """How many accepted requests have not ended, as the catalogue of this home has it."""
    path = f"file:{home / 'catalogue.sqlite'}?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as db:
        return db.execute("SELECT COUNT(*) FROM requests WHERE state = 'accepted'").fetchone()[0]


def journal(daemon):
    """Entries of the journal of a stopped daemon, oldest first."""
    import asyncio

    from hotseat.supervisor.catalogue.store import Catalogue

    async def read():
        catalogue = await Catalogue.open(daemon.home / "catalogue.sqlite")
        try:
            return await catalogue.journal_since(0, limit=100_000)
        finally:
            await catalogue.close()

    return asyncio.run(read())
