"""Folders elsewhere and an adapter of the settings, with daemons: stub workers, then a real one."""

import json
import subprocess
import sys

import pytest
from tests.support.daemons.live_daemon import LiveDaemon, put_record, wait_for
from tests.support.daemons.stub_home import QUIET, expected, stub_daemon, stub_record

from hotseat.cli.home.library_process import import_model

SEAT = '[seat]\nstandby = "off"\n'


def write_adapter(folder, weights):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_bytes(b"{}")
    (folder / "adapters.safetensors").write_bytes(weights)
    return folder


def test_contexts_and_log_of_a_daemon_go_where_the_settings_say(tmp_path):
    folders = "".join(f'{name} = "{tmp_path}/{name}"\n' for name in ("models", "kv", "logs"))
    daemon = LiveDaemon(stub={}, settings=f"{QUIET}{SEAT}[folders]\n{folders}")
    put_record(tmp_path, stub_record("a"))
    with daemon:
        client = daemon.client()
        done = client.generate("a", prompt="x" * 300, session="s", max_tokens=3).result()
        assert done.tokens == expected("a", "x" * 300, 3)
    assert [*(tmp_path / "kv").rglob("*.kv")]
    assert (tmp_path / "logs" / "hotseat.log").stat().st_size > 0
    assert not [*(daemon.home / "kv").rglob("*.kv")] if (daemon.home / "kv").exists() else True


def test_daemon_with_an_unmounted_folder_ends_with_line_and_remedy(tmp_path):
    daemon = LiveDaemon(stub={}, settings='[folders]\nkv = "/Volumes/SSD/kv"\n')
    done = command(daemon, "serve")
    assert done.returncode == 2
    assert "config.toml:2: folders.kv" in done.stderr and "mount it" in done.stderr
    assert "Traceback" not in done.stderr


def command(daemon, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "hotseat.cli.main", *arguments],
        env=daemon.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_restart_with_settings_that_would_be_refused_leaves_the_daemon_running():
    with stub_daemon("a") as daemon:
        (daemon.home / "config.toml").write_text('[folders]\nkv = "/Volumes/SSD/kv"\n')
        done = command(daemon, "restart")
        assert done.returncode == 2 and "config.toml:2" in done.stderr
        assert daemon.client().status().pid == daemon.process.pid


def test_models_that_are_away_are_told_where_models_are_listed():
    daemon = LiveDaemon(stub={}, settings='[folders]\nmodels = "/Volumes/SSD/models"\n')
    with daemon:
        done = command(daemon, "models")
        assert "volume /Volumes/SSD is not mounted" in done.stderr
        refused = command(daemon, "run", "a", "hi")
    assert refused.returncode == 5 and "/Volumes/SSD" in refused.stderr


def test_change_of_folders_waits_for_a_restart(tmp_path):
    with stub_daemon("a") as daemon:
        client = daemon.client()
        (daemon.home / "config.toml").write_text(f'{QUIET}{SEAT}[folders]\nkv = "{tmp_path}/kv"\n')
        view = client.reload()
        assert view.restart == ("folders.kv",) and not view.reseats


@pytest.fixture
def adapted(tmp_path):
    """A daemon with `a` seated, and how to write its settings."""
    with stub_daemon("ab") as daemon:
        client = daemon.client()
        client.swap("a")

        def use(adapter, model="a"):
            line = f'[models.{model}]\nadapter = "{adapter}"\n'
            (daemon.home / "config.toml").write_text(f"{QUIET}{SEAT}{line}")
            return client.reload()

        yield client, use


def tag_of(client, name):
    return next(view.tag for view in client.models() if view.name == name)


def reseated(client, epoch):
    def is_back():
        view = client.status()
        return view.epoch > epoch and view.phase == "ready"

    return wait_for(is_back, what="reseated")


def test_adapter_of_the_seated_model_swaps_it_for_itself(adapted, tmp_path):
    client, use = adapted
    epoch, tag = client.status().epoch, tag_of(client, "a")
    assert use(write_adapter(tmp_path / "lora", b"one")).reseats
    assert reseated(client, epoch)
    assert client.status().model == "a" and tag_of(client, "a") != tag


def test_adapter_of_another_model_leaves_the_seat_alone(adapted, tmp_path):
    client, use = adapted
    epoch, tag = client.status().epoch, tag_of(client, "b")
    assert not use(write_adapter(tmp_path / "lora", b"one"), "b").reseats
    assert client.status().epoch == epoch and tag_of(client, "b") != tag


def test_adapter_files_that_changed_reseat_their_model_at_a_reload(adapted, tmp_path):
    client, use = adapted
    folder = write_adapter(tmp_path / "lora", b"one")
    epoch = client.status().epoch
    use(folder)
    reseated(client, epoch)
    epoch, tag = client.status().epoch, tag_of(client, "a")
    write_adapter(folder, b"another one")
    assert client.reload().reseats
    assert reseated(client, epoch) and tag_of(client, "a") != tag


def test_real_model_answers_otherwise_with_the_adapter_of_the_settings(tmp_path):
    from tests.support.models.lora import make_lora
    from tests.support.models.tiny_models import make_tiny

    source = make_tiny(tmp_path / "src", "llama")
    lora = make_lora(tmp_path / "lora", source)
    daemon = LiveDaemon(settings=QUIET)
    environ = daemon.environment()
    command = [sys.executable, "-m", "hotseat.cli.main", "import", str(source), "--name", "m"]
    done = subprocess.run(
        [*command, "--json"], env=environ, capture_output=True, text=True, check=True
    )
    plain_tag = json.loads(done.stdout)["tag"]
    with daemon:
        client = daemon.client()
        plain = client.generate("m", prompt="hello there", max_tokens=8).result().tokens
        epoch = client.status().epoch
        line = f'[models.m]\nadapter = "{lora}"\n'
        (daemon.home / "config.toml").write_text(f"{QUIET}{SEAT}{line}")
        assert client.reload().reseats
        reseated(client, epoch)
        assert client.generate("m", prompt="hello there", max_tokens=8).result().tokens != plain
        assert tag_of(client, "m") != plain_tag


def test_import_registers_where_the_settings_say(tmp_path, monkeypatch):
    from tests.support.models.tiny_models import make_tiny

    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(f'[folders]\nmodels = "{tmp_path}/models"\n')
    monkeypatch.setenv("HOTSEAT_HOME", str(home))
    source = make_tiny(tmp_path / "src", "llama")
    import_model(str(source), "m", None, None, lambda _phase, _percent: None)
    assert (tmp_path / "models" / "m" / "model.json").is_file()
    assert not (home / "models").exists()
