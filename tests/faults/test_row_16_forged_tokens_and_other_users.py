"""Promise: nobody reads or ends what belongs to another client; another user does not get in."""

import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.daemons.stub_home import expected, stub_daemon
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Attach, Cancel, Credit, Generate
from hotseat.protocol.replies import ErrorBody

BURIED = "the keeper buried it under the third step"


@pytest.fixture
def daemon():
    with stub_daemon("a", slow_token_s=0.02, reply_tokens=100_000) as running:
        yield running


def forged(chance, token):
    """Tokens like the victim's."""
    at = chance.randrange(len(token))
    yield token[:at] + chance.choice("0123456789abcdef") + token[at + 1 :]
    yield token[::-1]
    yield token.upper() if token.upper() != token else token + "0"
    yield chance.randbytes(16).hex()


def guesses(chance, owner, name):
    """Ways to say "that one" without the right to."""
    yield name
    yield f"{owner.token}:{name}"
    yield name.upper()
    yield chance.randbytes(6).hex()


def test_guessed_ids_and_forged_tokens_get_nothing(row, daemon):
    chance = random.Random(16)
    runs = row.runs(push=100, slice=8, release=1000)
    got = 0
    with RawPeer(daemon.endpoint().requests) as owner:
        owner.say(Generate(model="a", prompt=BURIED, session="s", max_tokens=3000), "mine")
        owner.answer("mine")
        for number in range(runs):
            tokens = list(forged(chance, owner.token))
            token = tokens[number % len(tokens)]
            if token == owner.token:
                continue
            with RawPeer(daemon.endpoint().requests, hello=False) as thief:
                try:
                    thief.greet(token)
                except AssertionError:
                    continue  # such a token is refused
                for guess in guesses(chance, owner, "mine"):
                    for message in (Attach(request_id=guess), Cancel(request_id=guess)):
                        thief.say(message, "theft")
                        answer = thief.answer("theft")
                        got += not isinstance(answer, ErrorBody)
                    thief.say(Credit(grant_bytes=1000), guess)
            owner.ping()
        owner.say(Cancel(request_id="mine"), "end")
        *_, done = owner.until_end("mine")
        assert done.tokens == expected("a", BURIED, len(done.tokens)), "somebody disturbed it"
    row.record("stub", got, 0, "answers", runs=runs, what="given to thieves:")


def test_status_and_events_tell_nobody_tokens_or_prompts(daemon):
    with RawPeer(daemon.endpoint().requests) as owner:
        with RawPeer(daemon.endpoint().requests) as watcher:
            watcher.pack("events", {"since": 1, "credit_bytes": 10**9}, "e")
            owner.say(Generate(model="a", prompt=BURIED, max_tokens=5), "mine")
            owner.until_end("mine")
            watcher.pack("status", {}, "s")
            heard = []
            while not heard or heard[-1][0] != "s":
                heard.append(watcher.receive())
        assert owner.token not in repr(heard)
        assert BURIED not in repr(heard)
    log = (daemon.home / "logs" / "hotseat.log").read_text()
    assert owner.token not in log
    assert BURIED not in log


def test_everything_in_a_home_is_private_to_its_user(daemon):
    for path in (daemon.home, *daemon.home.rglob("*")):
        if path.parent == daemon.home / "models" or "models" in path.parts or path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.name == "config.toml":
            continue  # written by the user
        assert mode & 0o077 == 0, f"{path}: {mode:o}"


OTHER = """
import os, sys, zmq
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
socket = zmq.Context().socket(zmq.DEALER)
socket.setsockopt(zmq.LINGER, 0)
socket.connect(sys.argv[1])
socket.send_multipart([b"1", b"ping", b"x", b"\\x80"])
socket.send_multipart([b"1", b"hello", b"x", b"\\x81\\xa8protocol\\x01"])
print("in" if socket.poll(700) else "out")
"""


def test_other_user_does_not_get_in_even_with_the_folder_open(row, daemon):
    """As root the test becomes another user; without it, the socket's modes are what there is."""
    address = daemon.endpoint().requests
    path = Path(address.removeprefix("ipc://"))
    if os.geteuid() != 0:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        return
    runs = row.runs(push=5, slice=1, release=20)
    told = []
    for is_open in (False, True):
        if is_open:  # a user who opened everything by hand: the uid filter is left
            for folder in (daemon.base, daemon.home, path.parent):
                folder.chmod(0o777)
            path.chmod(0o777)
        for _ in range(runs):
            done = subprocess.run(
                [sys.executable, "-c", OTHER, address], capture_output=True, text=True, check=False
            )
            told.append(done.stdout.strip() or done.stderr.strip()[-200:])
    assert set(told) <= {"out"}, told
    row.record("stub", told.count("in"), 0, "let in", runs=2 * runs, what="other users")
    assert json.dumps(daemon.client().status().phase)


def test_token_of_a_wrong_shape_is_refused(daemon):
    for token in ("", "short", "x" * 5000, "a b" * 20):
        with RawPeer(daemon.endpoint().requests, hello=False) as peer:
            peer.pack("hello", {"protocol": 1, "token": token}, "h")
            answer = peer.answer("h")
            assert isinstance(answer, ErrorBody)
            assert answer.code in (HotseatError("invalid_request", "").code, "bad_frame")
