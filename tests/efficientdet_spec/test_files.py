"""Files appear complete or not at all, whatever happens in between."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet_spec import file_sha256, put_in_place, replacing


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
