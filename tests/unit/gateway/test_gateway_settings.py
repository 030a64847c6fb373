"""Doors that would stand open are not opened, and a port is never shared."""

import os
import socket

import pytest

from hotseat.client.gateways import read_gateway, read_gateways
from hotseat.gateway.ports import bind_port
from hotseat.gateway.presence import Presence
from hotseat.gateway.settings import GatewaySettings, check_settings
from hotseat.protocol.discovery import GatewayNote
from hotseat.protocol.errors import HotseatError

EVERYWHERE = "0.0.0.0"  # noqa: S104 - looked at, not bound
NOTE = GatewayNote(pid=1, address="http://127.0.0.1:5000", version="1")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (GatewaySettings(host=EVERYWHERE), "--insecure-lan"),
        (GatewaySettings(host=EVERYWHERE, open_loopback=True, insecure_lan=True), "without a key"),
        (GatewaySettings(tls_cert="/nowhere"), "belong together"),
        (GatewaySettings(embeddings_url="http://far.example:80/v1"), "127.0.0.1"),
        (GatewaySettings(embeddings_url="http://127.0.0.1:x/v1"), "127.0.0.1"),
        (GatewaySettings(embeddings_url="https://127.0.0.1:1/v1"), "127.0.0.1"),
        (GatewaySettings(tls_cert="/nowhere", tls_key="/nowhere"), "cannot be used"),
    ],
)
def test_door_that_would_stand_open_is_refused(settings, text):
    with pytest.raises(HotseatError, match=text) as refused:
        check_settings(settings)
    assert refused.value.code == "invalid_config"


@pytest.mark.parametrize(
    "settings",
    [
        GatewaySettings(embeddings_url="http://localhost:8080/v1/embeddings"),
        GatewaySettings(host="::1", open_loopback=True),
        GatewaySettings(host=EVERYWHERE, insecure_lan=True),
    ],
)
def test_door_that_is_safe_or_asked_for_is_opened(settings):
    check_settings(settings)


def test_address_is_one_that_clients_can_use():
    assert GatewaySettings(host="::1", port=5).address == "http://[::1]:5"
    assert GatewaySettings(host=EVERYWHERE, port=5).address == "http://127.0.0.1:5"
    lan = GatewaySettings(host=EVERYWHERE, port=5, hosts=("Mac.lan",), tls_cert="c", tls_key="k")
    assert lan.address == "https://Mac.lan:5"
    assert {"mac.lan", "localhost"} <= lan.known_hosts


def test_taken_port_names_its_holder():
    with bind_port("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HotseatError, match=f"process {os.getpid()}"):
            bind_port("127.0.0.1", port)


def test_connections_send_at_once():
    with bind_port("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_note_counts_as_long_as_its_writer_lives(tmp_path):
    assert read_gateway(tmp_path, 5000) is None
    with Presence(tmp_path, 5000, NOTE):
        assert read_gateway(tmp_path, 5000) == NOTE
        assert read_gateways(tmp_path) == [NOTE]
        assert (tmp_path / "run" / "http-5000.json").stat().st_mode & 0o777 == 0o600
    assert read_gateway(tmp_path, 5000) is None


def test_note_of_one_that_died_counts_no_more(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "http-5000.json").write_text('{"pid": 1, "address": "x", "version": "1"}')
    assert read_gateways(tmp_path) == []
