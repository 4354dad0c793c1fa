"""Folders of results: one run at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from made_images import waves

import compare
from efficientdet_spec import InputError
from parity.detections.shard_files import ShardFolder
from parity.process.files import LOCK, held, make_folder
from parity.process.frames import first_line
from parity.process.json_text import read_json

ROOT = Path(__file__).parents[3]


def test_a_folder_is_held_by_one_run(tmp_path):
    folder = tmp_path / "out"
    with held(folder):
        with pytest.raises(InputError, match=r"out is in use by another run; wait"), held(folder):
            pass
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert not list(folder.iterdir())
    with held(folder):
        pass


@pytest.mark.parametrize("command", ["coco", "detect", "report", "report --from"])
def test_every_command_with_a_folder_says_that_it_is_in_use(
    command, tiny_checkpoint, tmp_path, capsys
):
    out, images = tmp_path / "out", tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "1.png"), waves(24, 40))
    annotations = tmp_path / "a.json"
    values = {
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 24}],
        "annotations": [],
        "categories": [{"id": 1, "name": "x"}],
    }
    annotations.write_text(json.dumps(values))
    words = {
        "coco": ["coco", tiny_checkpoint, "--images", images, "--annotations", annotations],
        "detect": ["detect", tiny_checkpoint, images],
        "report": ["report", tiny_checkpoint],
        "report --from": ["report", "--from", images],
    }[command]
    with held(out):
        assert compare.main([*map(str, words), "--out", str(out)]) == 2
    assert f"{out} is in use by another run; wait until" in capsys.readouterr().err
    assert not out.exists() or not list(out.iterdir())


def test_a_killed_run_holds_nothing(tmp_path):
    program = (
        "import os, signal, sys, pathlib\n"
        "from parity.process.files import LOCK, held\n"
        "with held(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert (tmp_path / LOCK).exists()
    with held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 10**5, "too deeply"),
        (b"[" + b"0," * 20_000_001 + b"0]", "more than 20,000,000 values"),
        (b"[NaN]", "NaN"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
    ],
)
def test_texts_that_are_no_json(text, words, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=words):
        read_json(path, 2**30)


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="it is a"):
            read_json(path, 2**30)


def test_letters_beyond_ascii_take_four_times_their_room(tmp_path, monkeypatch):
    monkeypatch.setattr("parity.process.json_text.MAX_WIDE_BYTES", 100)
    path = tmp_path / "a.json"
    for text, fits in (('"' + "a" * 80 + '"', True), ('"' + "a" * 80 + 'é"', False)):
        path.write_text(text, "utf-8")
        if fits:
            assert read_json(path, 90) == "a" * 80
        else:
            with pytest.raises(ValueError, match="beyond ASCII"):
                read_json(path, 90)


def test_folders_below_the_one_that_was_named_are_no_links(tmp_path):
    named, elsewhere = tmp_path / "named", tmp_path / "elsewhere"
    elsewhere.mkdir()
    named.symlink_to(elsewhere)
    make_folder(named / "a" / "b", below=named)
    assert (elsewhere / "a" / "b").is_dir()
    (named / "c").symlink_to(tmp_path)
    for path in (named / "c", named / "c" / "d"):
        with pytest.raises(InputError, match="c is a link, so that what is written to .*named"):
            make_folder(path, below=named)


def test_shards_are_not_written_through_links(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "shards").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="shards is a link"):
        ShardFolder.claim(tmp_path / "out" / "shards" / "torch", {})
    assert not list((tmp_path / "elsewhere").iterdir())


class Silent(Exception):
    def __str__(self):
        raise ValueError("nothing")

    __repr__ = __str__


def test_an_error_that_cannot_say_what_it_is():
    assert first_line(Silent()) == "Silent"
