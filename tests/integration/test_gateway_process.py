"""The gateway as the daemon keeps it: its life, its door, what its owner asks."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx2
import psutil
import pytest
from tests.support.daemons.gateways import free_port
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.real_home import tiny_daemon
from tests.support.models.tiny_models import register_tiny

from hotseat.client.gateways import read_gateway, read_gateways

CERTIFICATE = Path(__file__).parents[1] / "support" / "certificates" / "localhost.pem"
MODELS = {"plain": {"template": "chatml", "seed": 2}, "qwen": {"template": "qwen", "seed": 3}}
ASK = [{"role": "user", "content": "Name a river."}]
DRAWN = {"temperature": 0.9, "seed": 4}
FAST = "in-process"
HOTSEAT = [sys.executable, "-m", "hotseat.cli.main"]


def settings(port, *lines):
    seat = '[deadlines]\ngrace_s = 0.05\n[seat]\nstandby = "off"\n'
    return seat + "\n".join(["[http]", "enabled = true", f"port = {port}", *lines, ""])


def gateway_pid(daemon):
    """Of the gateway that listens, None while there is none."""
    with daemon.client() as client:
        view = client.status().gateway
    return view.pid if view is not None and view.state == "running" else None


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def daemon():
    port = free_port()
    with tiny_daemon(MODELS, settings(port)) as made:
        made.port = port
        wait_for(lambda: gateway_pid(made), what="gateway listens")
        yield made
        last = gateway_pid(made)
        made.stop()
        assert last is not None and is_gone(last)


@pytest.fixture(scope="module")
def owner(daemon):
    return caller(daemon, (daemon.home / "http.key").read_text().strip())


def caller(daemon, key):
    return caller_at(f"http://127.0.0.1:{daemon.port}", key)


def caller_at(url, key):
    return httpx2.Client(base_url=url, headers={"x-api-key": key}, timeout=60)


def command(daemon, *arguments, **variables):
    env = daemon.environment() | variables
    return subprocess.run(
        [*HOTSEAT, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def body(model="plain", **options):
    return {"model": model, "messages": ASK, "max_tokens": 8} | options


def chat(http, model="plain", headers=None, **options):
    return http.post("/v1/chat/completions", json=body(model, **options), headers=headers)


@pytest.fixture(scope="module")
def bob(daemon):
    """A key that may ask one model and have it wait for nobody."""
    made = command(daemon, "key", "add", "bob", "--models", "plain", "--max-waiting", "2")
    assert made.returncode == 0, made.stderr
    return caller(daemon, made.stdout.strip())


def test_address_is_told_by_status_and_endpoint(daemon, client, owner):
    address = f"http://127.0.0.1:{daemon.port}"
    assert client.status().gateway.address == address
    assert daemon.endpoint().http == address
    assert command(daemon, "endpoint", "--http").stdout.strip() == address
    assert owner.get("/health/live").status_code == 200


def test_killed_gateway_is_back_and_the_daemon_notices_nothing(daemon, client, owner):
    assert chat(owner).status_code == 200
    before, pid = client.status(), gateway_pid(daemon)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gateway_pid(daemon) not in (None, pid), what="another gateway")
    assert time.monotonic() - began < 5.0
    after = client.status()
    assert (after.instance, after.epoch) == (before.instance, before.epoch)
    assert chat(owner).status_code == 200


def test_stream_goes_on_with_the_same_tokens_under_the_next_daemon(daemon, owner):
    whole = chat(owner, max_tokens=400, **DRAWN).json()["choices"][0]["message"]["content"]
    pid, text = gateway_pid(daemon), ""
    asked = body(max_tokens=400, stream=True, **DRAWN)
    with owner.stream("POST", "/v1/chat/completions", json=asked) as answer:
        for number, line in enumerate(answer.iter_lines()):
            if number == 6:
                daemon.kill()
                daemon.start()
            if line.startswith("data: {"):
                delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
                text += delta.get("content") or ""
    with daemon.client() as client:
        assert client.status().recovery.kept_requests == 1
    assert text == whole
    assert wait_for(lambda: gateway_pid(daemon), what="gateway is taken over") == pid


def test_two_keys_share_nothing(daemon, owner, bob):
    secret = [{"role": "user", "content": "The word is marmalade."}]
    header = {"X-Hotseat-Session": "diary"}
    assert chat(owner, messages=secret, headers=header).status_code == 200
    assert chat(bob, headers=header).status_code == 200
    mine = sessions(owner)
    theirs = bob.get("/admin/sessions").json()["sessions"]
    assert mine >= {"diary", "key:bob:diary"}
    assert [view["session"] for view in theirs] == ["diary"]
    assert theirs[0]["turn"] == 1
    assert bob.get("/metrics").status_code == 403
    seen = {model["id"] for model in bob.get("/v1/models").json()["data"]}
    assert "plain" in seen and "qwen" not in seen
    assert chat(bob, "qwen").status_code == 404
    assert bob.delete("/admin/sessions/plain/diary").json()["deleted"] is True
    left = sessions(owner)
    assert "diary" in left and "key:bob:diary" not in left


def test_responses_and_recognised_conversations_belong_to_a_key(owner, bob):
    made = owner.post(
        "/v1/responses", json={"model": "plain", "input": "Hi.", "max_output_tokens": 4}
    )
    response_id = made.json()["id"]
    asked = {"model": "plain", "input": "And?", "max_output_tokens": 4}
    going_on = asked | {"previous_response_id": response_id}
    assert bob.get(f"/v1/responses/{response_id}").status_code == 404
    assert bob.delete(f"/v1/responses/{response_id}").status_code == 404
    assert bob.post("/v1/responses", json=going_on).status_code == 404
    assert owner.post("/v1/responses", json=going_on).status_code == 200
    talk = [{"role": "user", "content": "Of the two of us."}]
    said = chat(owner, messages=talk).json()["choices"][0]["message"]
    more = [*talk, {"role": "assistant", "content": said["content"]}, *ASK]
    before = sessions(owner)
    assert chat(bob, messages=more).status_code == 200
    (new,) = sessions(owner) - before
    assert chat(owner, messages=more).status_code == 200
    assert sessions(owner) - before == {new}


def sessions(http):
    return {view["session"] for view in http.get("/admin/sessions").json()["sessions"]}


def test_key_that_may_not_have_a_model_does_not_move_the_seat_in_any_dialect(client, bob):
    epoch = client.status().epoch
    for body in ({"model": "qwen"}, {"model": "qwen", "keep_alive": 0}):
        assert bob.post("/api/generate", json=body).status_code in (403, 404)
    assert bob.post("/api/show", json={"model": "qwen"}).status_code == 404
    assert [m["name"] for m in bob.get("/api/tags").json()["models"]] == ["plain"]
    assert client.status().epoch == epoch


def test_swap_is_reported_or_looked_at_again(client, owner, bob):
    report = owner.post("/admin/models/swap", json={"model": "qwen", "mode": FAST}).json()
    assert (report["to"], client.status().model) == ("qwen", "qwen")
    assert owner.get("/admin/models/current").json()["model"] == "qwen"
    key = {"Idempotency-Key": "one-swap"}
    order = {"model": "plain", "mode": FAST, "wait": False}
    begun = owner.post("/admin/models/swap", json=order, headers=key)
    assert begun.status_code == 202 and begun.headers["location"] == "/admin/operations/one-swap"
    again = owner.post("/admin/models/swap", json=order, headers=key)
    assert again.json()["id"] == begun.json()["id"]
    place = begun.headers["location"]
    done = wait_for(
        lambda: (found := owner.get(place).json())["state"] == "finished" and found, what="swapped"
    )
    assert done["report"]["to"] == "plain"
    assert bob.get(place).status_code == 404
    assert owner.post("/admin/models/swap", json={"model": "nope"}).status_code == 404
    assert bob.post("/admin/models/swap", json={"model": "qwen"}).status_code == 404
    assert bob.get("/admin/sessions?model=qwen").status_code == 404
    assert bob.post("/admin/models/swap", json={"model": "plain"}).json()["mode"] == "none"
    bad = owner.post("/admin/models/swap", json={"model": 3})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "model")
    clash = owner.post("/admin/models/swap", json={"model": "qwen"}, headers=key)
    assert clash.status_code == 409


def test_metrics_count_what_was_asked(owner):
    agent = {"User-Agent": "claude-cli/2.1 (external, cli)"}
    assert chat(owner, headers=agent).status_code == 200
    page = owner.get("/metrics").text
    label = 'agent="claude-code",dialect="chat",model="plain",outcome="ok"'
    assert f"hotseat_http_requests_total{{{label}}} 1.0" in page
    for name in (
        'hotseat_http_tokens_total{kind="out",model="plain"}',
        'hotseat_memory_bytes{class="weights"}',
        'hotseat_kv_bytes{place="cold"}',
        'hotseat_swaps_total{agent="other",outcome="finished"}',
        "hotseat_up 1.0",
        "hotseat_http_open_streams 0.0",
    ):
        assert name in page
    assert "river" not in page and "process_cpu" not in page


def test_reading_and_refusals_leave_the_seat_empty(client, owner):
    assert owner.post("/admin/release", json={}).json()["released"] == "plain"
    epoch = client.status().epoch
    for path in (
        *("/", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/v1/models"),
        *("/v1/models/plain", "/admin/models/current", "/admin/models/available"),
    ):
        assert owner.get(path).status_code == 200, path
        assert owner.head(path).status_code == 200, path
    assert owner.get("/nowhere").json()["error"]["code"] == "not_found"
    assert owner.get("/v1/messages").json()["type"] == "error"
    assert owner.get("/v1/messages").status_code == 405
    options = owner.request("OPTIONS", "/v1/chat/completions")
    assert (options.status_code, options.headers["allow"]) == (204, "POST")
    deep = b'{"model": "plain", "messages": ' + b"[" * 40 + b"]" * 40 + b"}"
    json_type = {"content-type": "application/json"}
    refused = owner.post("/v1/chat/completions", content=deep, headers=json_type)
    assert refused.status_code == 400 and "deeper than 32" in refused.json()["error"]["message"]
    status = client.status()
    assert (status.epoch, status.model) == (epoch, None)


def test_certificate_is_what_clients_see(tmp_path):
    """Without a daemon: the door is there before one is."""
    port = free_port()
    tls = [f'{name} = "{CERTIFICATE}"' for name in ("tls_cert", "tls_key")]
    (tmp_path / "config.toml").write_text("\n".join(["[http]", f"port = {port}", *tls]))
    env = os.environ | {"HOTSEAT_HOME": str(tmp_path)}
    with subprocess.Popen([*HOTSEAT, "gateway"], env=env) as process:
        try:
            note = wait_for(lambda: read_gateway(tmp_path, port), what="gateway listens")
            assert note.address == f"https://127.0.0.1:{port}"
            trusting = httpx2.Client(verify=ssl.create_default_context(cafile=CERTIFICATE))
            with trusting as http:
                assert http.get(f"{note.address}/health/live").status_code == 200
                assert http.get(f"{note.address}/v1/models").status_code == 401
        finally:
            process.terminate()
    assert read_gateway(tmp_path, port) is None


STUB = """#!{python}
import json, os, sys
keys = ("ANTHROPIC_", "OPENCODE_", "HOTSEAT_HTTP", "CLAUDE_")
kept = {{k: v for k, v in os.environ.items() if k.startswith(keys)}}
print(json.dumps({{"argv": sys.argv[1:], "env": kept}}))
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    for name in ("claude", "codex", "opencode"):
        (folder / name).write_text(STUB.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return folder


def launched(daemon, programs, *arguments):
    done = command(daemon, "launch", *arguments, PATH=str(programs), ANTHROPIC_API_KEY="theirs")
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**json.loads(done.stdout))


def test_agents_are_told_where_to_ask(daemon, owner, programs):
    key = owner.headers["x-api-key"]
    address = f"http://127.0.0.1:{daemon.port}"
    claude = launched(daemon, programs, "claude", "--model", "plain", "--", "-p", "Hello")
    assert claude.argv == ["-p", "Hello"]
    assert claude.env["ANTHROPIC_BASE_URL"] == address
    assert claude.env["ANTHROPIC_AUTH_TOKEN"] == key
    assert claude.env["ANTHROPIC_MODEL"] == "plain"
    assert claude.env["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "seated"
    assert "ANTHROPIC_API_KEY" not in claude.env
    codex = launched(daemon, programs, "codex", "--model", "plain", "exec", "Hello")
    assert codex.argv[-2:] == ["exec", "Hello"]
    assert f'model_providers.hotseat.base_url="{address}/v1"' in codex.argv
    assert codex.env["HOTSEAT_HTTP_KEY"] == key
    opencode = launched(daemon, programs, "opencode", "--model", "plain")
    told = json.loads(opencode.env["OPENCODE_CONFIG_CONTENT"])
    assert told["provider"]["hotseat"]["options"]["apiKey"] == key


def test_launch_starts_what_is_not_there(programs):
    home = LiveDaemon(settings=f"[http]\nport = {free_port()}\n")
    register_tiny(home.home, "only", kind="llama", template="chatml")
    try:
        claude = launched(home, programs, "claude")
        assert claude.env["ANTHROPIC_MODEL"] == "only"
        (note,) = read_gateways(home.home)
        with caller_at(note.address, claude.env["ANTHROPIC_AUTH_TOKEN"]) as http:
            assert http.get("/v1/models").json()["data"][0]["id"] == "only"
        again = launched(home, programs, "claude")
        assert again.env["ANTHROPIC_BASE_URL"] == note.address
        os.kill(note.pid, signal.SIGTERM)
    finally:
        command(home, "stop")
        shutil.rmtree(home.base)


def test_missing_agent_is_named_with_its_site(daemon, tmp_path):
    done = command(daemon, "launch", "claude", PATH=str(tmp_path))
    assert done.returncode == 69 and "https://claude.com" in done.stderr


def test_reload_moves_the_gateway_and_names_who_has_its_port(daemon, client):
    """Last: the gateway is elsewhere afterwards."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (daemon.home / "config.toml").write_text(settings(port))
        client.reload()
        view = wait_for(
            lambda: (v := client.status().gateway).state == "ended" and v, what="gateway ended"
        )
        assert f":{port}" in view.reason and f"process {os.getpid()}" in view.reason
    wait_for(lambda: gateway_pid(daemon), what="gateway has the port")
    assert daemon.endpoint().http == f"http://127.0.0.1:{port}"
