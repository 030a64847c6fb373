"""A catalogue of version 1 opens, and its sessions can be forked and rewound."""

import asyncio
import sqlite3

from hotseat.protocol.ids import ModelName, SessionName
from hotseat.protocol.messages import Message
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.catalogue import schema
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import cut_at
from hotseat.supervisor.conversation.history import History, encode_history

SESSION = (ModelName("m"), SessionName("s"))
HISTORY = History(messages=tuple(Message(role="user", content=str(n)) for n in range(4)))


def old_catalogue(path):
    """Two turns of a session, as version 1 stored them."""
    connection = sqlite3.connect(path)
    connection.executescript(schema._V1 + "PRAGMA user_version = 1;")
    connection.execute(
        "INSERT INTO sessions (id, model, name, tag, tokenizer_digest, turn, closed, clock,"
        " persist, created_at, used_at, hint, tokens, messages)"
        " VALUES (1, 'm', 's', 't', 'd', 2, 1, 0.0, 1, 0.0, 0.0, x'', ?, ?)",
        (pack_tokens(range(20)), encode_history(HISTORY)),
    )
    connection.executemany(
        "INSERT INTO turns (session, turn, tokens, message_count, at) VALUES (1, ?, ?, ?, 0.0)",
        [(1, 10, 2), (2, 20, 4)],
    )
    connection.commit()
    connection.close()


def test_old_session_goes_back_to_its_messages_and_renders_them(tmp_path):
    old_catalogue(tmp_path / "catalogue.sqlite")

    async def work():
        catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
        try:
            row = await catalogue.fork_session(
                *SESSION, SessionName("f"), lambda held: cut_at(held, 1), 1.0
            )
            return row, await catalogue.session(*SESSION)
        finally:
            await catalogue.close()

    fork, origin = asyncio.run(work())
    assert (fork.turn, fork.stale, fork.tokens) == (1, True, b"")
    assert (origin.turn, origin.stale, origin.tokens) == (2, False, pack_tokens(range(20)))
