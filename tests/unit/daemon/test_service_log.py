"""launchd's file of output: rotated under the daemon's hands, nothing lost, bounded."""

import os

import pytest

from hotseat.supervisor.daemon.service_log import is_service, rotate_output


@pytest.fixture
def output(tmp_path):
    path = tmp_path / "service.err"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    yield path, descriptor
    os.close(descriptor)


def rotate(path, descriptor, **options):
    return rotate_output(path, descriptors=(descriptor,), **({"max_bytes": 10} | options))


def test_full_file_moves_away_and_writing_goes_on_in_a_new_one(output):
    path, descriptor = output
    os.write(descriptor, b"before 1234\n")
    assert rotate(path, descriptor)
    os.write(descriptor, b"after\n")
    assert path.read_bytes() == b"after\n"
    assert path.with_name("service.err.1").read_bytes() == b"before 1234\n"


def test_file_with_room_stays(output):
    path, descriptor = output
    os.write(descriptor, b"short\n")
    assert not rotate(path, descriptor)


def test_files_never_become_more_than_allowed(output):
    path, descriptor = output
    for number in range(9):
        os.write(descriptor, f"{number:011}\n".encode())
        rotate(path, descriptor, files=5)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "service.err",
        *(f"service.err.{number}" for number in range(1, 5)),
    ]
    assert path.with_name("service.err.4").read_bytes() == b"00000000005\n"


def test_terminal_or_pipe_is_left_alone(output):
    path, descriptor = output
    os.write(descriptor, b"before 1234\n")
    reader, writer = os.pipe()
    assert not rotate_output(path, max_bytes=10, descriptors=(writer,))
    os.close(reader)
    os.close(writer)
    assert path.exists()


def test_new_file_is_private(output):
    path, descriptor = output
    os.write(descriptor, b"before 1234\n")
    rotate(path, descriptor)
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_the_property_list_makes_a_service():
    assert is_service({"HOTSEAT_SERVICE": "local.hotseat"}) and not is_service({})
