"""Finding the daemon: one variable, one file, typed errors."""

import msgspec
import pytest

from hotseat.client.endpoint import find_address, find_home
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.discovery import Endpoint
from hotseat.protocol.errors import HotseatError


def write(home, **changes):
    endpoint = Endpoint(
        protocol_min=1,
        protocol_max=1,
        version="0.1.0",
        instance="i",
        pid=1,
        requests="ipc:///run/hs.sock",
    )
    (home / "run").mkdir()
    data = msgspec.json.encode(msgspec.structs.replace(endpoint, **changes))
    (home / "run" / "endpoint.json").write_bytes(data)


def test_variable_counts_more_than_the_file(tmp_path):
    write(tmp_path)
    environ = {"HOTSEAT_ENDPOINT": "ipc:///other.sock", "HOTSEAT_HOME": str(tmp_path)}
    assert find_address(environ=environ) == "ipc:///other.sock"
    assert find_address(tmp_path, environ) == "ipc:///run/hs.sock"


def test_home_variable_names_the_folder(tmp_path):
    write(tmp_path)
    assert find_address(environ={"HOTSEAT_HOME": str(tmp_path)}) == "ipc:///run/hs.sock"
    assert find_home({}).name == ".hotseat"


def test_no_file_means_no_daemon(tmp_path):
    with pytest.raises(DaemonUnreachable, match=r"daemon not running.*hotseat serve"):
        find_address(tmp_path)


def test_damaged_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "run" / "endpoint.json").write_bytes(b"{")
    with pytest.raises(HotseatError, match="damaged") as caught:
        find_address(tmp_path)
    assert caught.value.code == "daemon_unreachable"


def test_folder_in_place_of_the_file_is_typed(tmp_path):
    (tmp_path / "run" / "endpoint.json").mkdir(parents=True)
    with pytest.raises(DaemonUnreachable, match="cannot be read"):
        find_address(tmp_path)


def test_daemon_of_another_protocol_is_refused_before_connecting(tmp_path):
    write(tmp_path, protocol_min=5, protocol_max=6)
    with pytest.raises(HotseatError, match="5 to 6") as caught:
        find_address(tmp_path)
    assert caught.value.code == "version_mismatch"


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5555", "inproc://x", "ipc://"])
def test_anything_but_a_unix_socket_is_refused(tmp_path, address):
    write(tmp_path, requests=address)
    with pytest.raises(HotseatError) as caught:
        find_address(tmp_path)
    assert caught.value.code == "invalid_request"


def test_path_is_counted_in_bytes(tmp_path):
    write(tmp_path, requests="ipc:///" + "ä" * 52)
    with pytest.raises(HotseatError, match="105 bytes"):
        find_address(tmp_path)
