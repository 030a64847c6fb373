"""The digest of installed code changes with its files, and with nothing else."""

import os
import shutil

import pytest

from hotseat.protocol.installed_code import InstalledCode
from hotseat.protocol.version import VERSION


@pytest.fixture
def root(tmp_path):
    for name, text in {
        "protocol/version.py": 'from typing import Final\nVERSION: Final = "1.2"\n',
        "protocol/link.py": "a = 1\n",
        "worker/text/calls.py": "b = 2\n",
        "supervisor/daemon.py": "c = 3\n",
    }.items():
        path = tmp_path / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "one"


def test_own_code_is_of_the_version_that_runs():
    assert InstalledCode().read().version == VERSION


@pytest.mark.parametrize("name", ["protocol/link.py", "worker/text/calls.py", "worker/new.py"])
def test_changed_or_added_file_of_either_end_changes_the_digest(root, name):
    installed = InstalledCode([root])
    before = installed.read()
    (root / name).write_text("a = 10\n")
    assert installed.read() == InstalledCode([root]).read() != before


def test_other_packages_and_times_change_nothing(root):
    installed = InstalledCode([root])
    before = installed.read()
    (root / "supervisor/daemon.py").write_text("c = 4\n")
    os.utime(root / "protocol/link.py", (1, 1))
    assert installed.read() == before and before.version == "1.2"


def test_same_files_elsewhere_are_the_same_code(root):
    shutil.copytree(root, root.parent / "two")
    assert InstalledCode([root.parent / "two"]).read() == InstalledCode([root]).read()


def test_package_of_the_first_root_is_the_one_that_counts(root):
    two = root.parent / "two"
    shutil.copytree(root, two)
    (two / "protocol/link.py").write_text("a = 5\n")
    assert InstalledCode([root, two]).read() == InstalledCode([root]).read()


def test_code_that_is_gone_has_no_version(root):
    installed = InstalledCode([root])
    before = installed.read()
    shutil.rmtree(root)
    gone = installed.read()
    assert gone.version == "" and gone.digest != before.digest
