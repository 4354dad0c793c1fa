"""Files appear complete or not at all, whatever happens in between."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from efficientdet_spec import (
    file_sha256,
    locked,
    open_regular,
    printable,
    put_in_place,
    read_regular,
    replacing,
    sweep_folder,
)

ROOT = Path(__file__).parents[2]


def test_a_file_has_its_name_only_once_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    with replacing(target) as temporary:
        temporary.write_text("half")
        assert not target.exists() and temporary.parent == tmp_path
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt, SystemExit])
def test_what_goes_wrong_leaves_the_earlier_file(
    error: type[BaseException], tmp_path: Path
) -> None:
    target = tmp_path / "result.json"
    target.write_text("earlier")
    with pytest.raises(error), replacing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(IsADirectoryError), replacing(target) as temporary:
        temporary.write_text("text")
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_was_not_written_is_missed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "result.json"):
        pass
    assert list(tmp_path.iterdir()) == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_permissions_are_those_of_the_earlier_file_or_of_any_new_one(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    before = os.umask(0o027)
    try:
        with replacing(new) as temporary:
            temporary.write_text("x")
        old.write_text("earlier")
        old.chmod(0o604)
        with replacing(old) as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (mode(new), mode(old)) == (0o640, 0o604)


def test_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("flush the folder" if folder else "flush the file")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    with replacing(tmp_path / "result") as temporary:
        temporary.write_text("x")
    assert steps == ["flush the file", "rename", "flush the folder"]


def test_a_disk_that_cannot_keep_the_bytes_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, temporary = tmp_path / "result", tmp_path / "temporary"
    target.write_text("earlier")
    temporary.write_text("new")

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as changed:
        changed.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output"):
            put_in_place(temporary, target)
    assert target.read_text() == "earlier"


def test_a_killed_process_leaves_no_half_file_under_the_name(tmp_path: Path) -> None:
    target = tmp_path / "result"
    program = (
        "import os, signal, sys, pathlib\n"
        "from efficientdet_spec import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program, str(target)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_digest_covers_every_byte(size: int, tmp_path: Path) -> None:
    path = tmp_path / "data"
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


# What a killed process has left


KILLED = (
    "import os, signal, sys, pathlib\n"
    "from efficientdet_spec import replacing\n"
    "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
    "    temporary.write_text('half')\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target, other = tmp_path / "result", tmp_path / "other"
    for path in (target, other):
        subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(target) as temporary:
        temporary.write_text("whole")
    left = [path.name for path in tmp_path.iterdir() if path != target]
    assert len(left) == 1 and left[0].startswith(".other.")


def test_files_of_other_names_are_nobodys_litter(tmp_path: Path) -> None:
    target = tmp_path / "result"
    theirs = [".result.backup.tmp", ".notes.tmp", ".result.tmp", ".result.7x.tmp", "result.1.tmp"]
    for name in theirs:
        (tmp_path / name).write_text("precious")
    (tmp_path / ".result.77.tmp").write_text("half")
    (tmp_path / ".result.77-0123abcd.tmp").write_text("half")
    with replacing(target) as temporary:
        temporary.write_text("whole")
    sweep_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*theirs, "result"])


def test_what_another_writes_now_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with replacing(target) as first:
        first.write_text("first")
        with replacing(target) as second:
            second.write_text("second")
        assert target.read_text() == "second" and first.exists()
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_written_through_a_link_put_in_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import efficientdet_spec.files

    victim, way = tmp_path / "victim", tmp_path / "way"
    victim.write_text("precious")
    way.symlink_to(victim)
    monkeypatch.setattr(efficientdet_spec.files, "temporary_beside", lambda _: way)
    with pytest.raises(FileExistsError), replacing(tmp_path / "result"):
        pass
    assert victim.read_text() == "precious"


# Locks


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as first:
        with locked(path) as second:
            assert (first, second) == (True, False)
        program = (
            "import sys, pathlib\nfrom efficientdet_spec import locked\n"
            "with locked(pathlib.Path(sys.argv[1])) as ours:\n    print(ours)\n"
        )
        command = [sys.executable, "-c", program, str(path)]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert found.stdout == "False\n"
    assert not path.exists()
    with locked(path) as again:
        assert again


# Files that are none


def odd_files(folder: Path) -> dict[str, Path]:
    pipe, link = folder / "pipe", folder / "zeros"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.close()
    return {
        "a named pipe": pipe,
        "a device": link,
        "a socket": folder / "socket",
        "a folder": folder,
        "No such file": folder / "missing",
    }


@pytest.mark.parametrize("read", [open_regular, partial(read_regular, limit=9), file_sha256])
def test_what_is_no_file_is_not_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    for words, path in odd_files(tmp_path).items():
        with pytest.raises(OSError, match=words):
            read(path)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, and at most 4 are read"):
        read_regular(path, 4)
    # Files of the system say that they are empty.
    assert len(read_regular("/proc/self/status", 2**20)) > 100
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_regular("/proc/self/status", 10)


def test_a_text_from_elsewhere_obeys_no_terminal() -> None:
    text = "a\x1b[2J\nwrote good.pth\r\u202e\u009b\udcff é 語"
    assert printable(text) == r"a\x1b[2J\nwrote good.pth\r\u202e\x9b\udcff é 語"
    assert printable("plain text") == "plain text" and printable(3) == "3"
