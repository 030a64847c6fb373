"""What was closed opens for its purpose and owner, and nothing else does."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hotseat.gateway.responses.ids import ResponseId, read_id, unkept_id, write_id
from hotseat.gateway.sealing import KEY_FILE, Seal, seal_of
from hotseat.protocol.errors import HotseatError

SEAL = Seal(b"k" * 32)
IDS = st.builds(
    ResponseId,
    model=st.text(min_size=1, max_size=20),
    session=st.text(min_size=1, max_size=40),
    turn=st.integers(1, 2**40),
    head=st.text("0123456789abcdef", min_size=12, max_size=12),
    instructed=st.booleans(),
    request=st.text("0123456789abcdef", min_size=16, max_size=16),
)


@given(st.binary(max_size=200), st.text(max_size=8))
def test_closed_bytes_open_for_their_purpose_alone(data, purpose):
    text = SEAL.close(purpose, data)
    assert SEAL.open(purpose, text) == data
    assert SEAL.open(purpose + "!", text) is None
    assert Seal(b"o" * 32).open(purpose, text) is None


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda data: data.hex()))
def test_what_others_make_up_does_not_open(text):
    assert SEAL.open("p", text) is None


@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_changed_character_closes_it_for_good(data, draw):
    text = SEAL.close("p", data)
    at = draw.draw(st.integers(0, len(text) - 2))  # the last one may hold bits of nothing
    other = draw.draw(st.sampled_from([c for c in "AZaz09-_" if c != text[at]]))
    assert SEAL.open("p", text[:at] + other + text[at + 1 :]) is None


@given(IDS)
def test_id_leads_back_and_is_another_for_each_request(response):
    first = write_id(SEAL, "anna", response)
    assert first != write_id(SEAL, "anna", replace(response, request=response.request + "1"))
    assert read_id(SEAL, "anna", first, None) == response
    for owner, text in (("bob", first), ("anna", first[5:]), ("anna", unkept_id()), ("anna", "")):
        with pytest.raises(HotseatError) as caught:
            read_id(SEAL, owner, text, "previous_response_id")
        assert caught.value.spec.http_status == 404
        assert caught.value.facts["field"] == "previous_response_id"


def test_sealed_bytes_of_another_shape_are_no_id():
    text = "resp_" + SEAL.close("response:", b"\x01")
    with pytest.raises(HotseatError, match="there is no response"):
        read_id(SEAL, "", text, None)


def test_key_is_made_once_for_all_who_ask_at_the_same_time(tmp_path):
    home = tmp_path / "home"
    barrier = threading.Barrier(8)
    sealed = []

    def make():
        barrier.wait()
        sealed.append(seal_of(home).close("p", b"x"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sealed)) == 1 and len(sealed) == 8
    assert [path.name for path in home.iterdir()] == [KEY_FILE]
    assert (home / KEY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("held", [b"no key", b"", b"00ff", b"\xff"])
def test_damaged_key_is_named(tmp_path, held):
    (tmp_path / KEY_FILE).write_bytes(held)
    with pytest.raises(HotseatError, match=r"http-seal\.key holds no key; remove it"):
        seal_of(tmp_path)
