"""Detections in pieces: complete or not there, never another run's."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from efficientdet_spec import InputError, replacing
from parity.detections.annotations import CocoImage
from parity.detections.shards import Prepared, Work, fingerprint, in_process, run

MANIFEST = {"framework": "torch", "profile": {"nms": "soft"}, "size": [8, 8]}


class Counting:
    """A side whose detections tell the image's content; some contents are refused."""

    def __init__(self):
        self.seconds = {"network": 0.0}
        self.batches = []

    def prepare(self, path):
        if not path.is_file() or not (data := path.read_bytes()):
            raise InputError(f"{path} cannot be read.")
        return Prepared(4, 6, data[0])

    def detect(self, images):
        values = [item.value for item in images]
        self.batches.append(values)
        if 255 in values:
            raise InputError("The network's outputs hold NaN.")
        self.seconds["network"] += len(values)
        box = [0, 0, 1, np.inf]
        return [(([box] if v == 254 else [[0, 0, 1, v]]), [0.5], [v % 3]) for v in values]


@pytest.fixture
def side():
    return Counting()


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.png").write_bytes(bytes([number + 1]))
    images = [CocoImage(number + 100, f"{number}.png", 6, 4) for number in range(40)]
    return Work(folder, images, 3)


def call(folder, side, work, manifest=MANIFEST, progress=lambda done, total: None):
    compute = in_process(lambda: contextlib.nullcontext(side))
    return run(folder, manifest, work, compute, progress)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_times(files):
    """What is the same in every run."""
    values = {name: json.loads(data) for name, data in files.items()}
    return {name: value | {"seconds": None, "sha256": None} for name, value in values.items()}


def test_shards_hold_whole_batches(tmp_path, side, work):
    told = []
    shards = call(tmp_path / "s", side, work, progress=lambda *amounts: told.append(amounts))
    assert [len(shard.images) for shard in shards] == [18, 18, 4]
    assert [len(batch) for batch in side.batches] == [3] * 13 + [1]
    assert told[0] == (0, 40) and told[-1] == (40, 40) and told == sorted(told)
    assert [item.rows[0, 2] for shard in shards for item in shard.images] == list(range(1, 41))
    assert [shard.seconds["network"] for shard in shards] == [18, 18, 4]
    assert sorted(contents(tmp_path / "s")) == [
        "00000.json", "00001.json", "00002.json", "manifest.json",
    ]  # fmt: skip


def test_a_second_run_reads_what_the_first_wrote(tmp_path, side, work):
    first = call(tmp_path / "s", side, work)

    def never():
        raise AssertionError("opened")

    second = run(tmp_path / "s", MANIFEST, work, in_process(never), lambda *_: None)
    for one, other in zip(first, second, strict=True):
        assert one.seconds == other.seconds
        for item, again in zip(one.images, other.images, strict=True):
            assert item.image_id == again.image_id and (item.rows == again.rows).all()


def test_only_what_is_missing_is_computed(tmp_path, work):
    call(tmp_path / "s", Counting(), work)
    before = contents(tmp_path / "s")
    (tmp_path / "s" / "00001.json").unlink()
    (tmp_path / "s" / ".00001.json.77.tmp").write_text("half")
    side = Counting()
    call(tmp_path / "s", side, work)
    assert sum(map(len, side.batches)) == 18
    assert without_times(contents(tmp_path / "s")) == without_times(before)


def test_images_that_fail_do_not_stop_others(tmp_path, side, work):
    folder = work.folder
    (folder / "1.png").unlink()
    (folder / "3.png").write_bytes(b"")
    (folder / "7.png").write_bytes(bytes([255]))
    (folder / "9.png").write_bytes(bytes([254]))
    images = list(work.images)
    images[11] = CocoImage(111, "11.png", 7, 4)
    shards = call(tmp_path / "s", side, Work(folder, images, 3))
    results = [item for shard in shards for item in shard.images]
    assert [item.image_id for item in results] == [image.id for image in images]
    failed = {item.image_id: item.failure for item in results if item.failure}
    assert sorted(failed) == [101, 103, 107, 109, 111]
    assert "1.png cannot be read" in failed[101] and "NaN" in failed[107]
    assert "NaN or infinity" in failed[109]
    assert "6x4 pixels, but the annotations are for 7x4" in failed[111]
    assert results[6].rows[0, 2] == 7 and results[8].rows[0, 2] == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"framework": "tensorflow"}, "framework was torch, now tensorflow"),
        ({"profile": {"nms": "hard"}}, "profile nms was soft, now hard"),
        ({"size": [16, 8]}, r"size was \[8, 8\], now \[16, 8\]"),
        ({"images": "x"}, "images was None, now x"),
    ],
)
def test_another_runs_shards_are_refused(tmp_path, side, work, change, message):
    call(tmp_path / "s", side, work)
    before = contents(tmp_path / "s")
    with pytest.raises(InputError, match=message):
        call(tmp_path / "s", side, work, {**MANIFEST, **change})
    assert contents(tmp_path / "s") == before


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"images": 3, "seconds": {}}', '{"images": [], "seconds": {}}',
     '{"images": [{"image_id": 100, "failure": null, "detections": [[1, 2]]}], "seconds": {}}'],
)  # fmt: skip
def test_a_damaged_shard_is_named(tmp_path, side, work, text):
    call(tmp_path / "s", side, work)
    (tmp_path / "s" / "00001.json").write_text(text)
    with pytest.raises(InputError, match=r"00001\.json .*delete it and run again"):
        call(tmp_path / "s", side, work)


def scored(values, score):
    values["images"][3]["detections"][0][4] = score


CHANGES = {
    "a digit of a score": lambda values: scored(values, 0.6),
    "a score that is no number": lambda values: scored(values, "0.5"),
    "a detection more": lambda v: v["images"][0]["detections"].append([0, 0, 1, 1, 0.9, 1]),
    "a failure less": lambda values: values["images"][1].update(failure="none"),
    "a digest of something else": lambda values: values.update(sha256="0" * 64),
    "no digest": lambda values: values.pop("sha256"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_finished_shard_that_was_changed_is_refused(tmp_path, side, work, change):
    call(tmp_path / "s", side, work)
    path = tmp_path / "s" / "00001.json"
    values = json.loads(path.read_text())
    # Written otherwise, it is still the same.
    path.write_text(json.dumps(dict(reversed(values.items())), indent=3))
    call(tmp_path / "s", side, work)
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"00001\.json is (no|not as).*delete it and run again"):
        call(tmp_path / "s", side, work)


def test_a_shard_of_another_run_is_refused(tmp_path, side, work):
    """Of the same images, and whole."""
    call(tmp_path / "s", side, work)
    call(tmp_path / "other", side, work, {**MANIFEST, "size": [9, 9]})
    shutil.copy(tmp_path / "other" / "00001.json", tmp_path / "s" / "00001.json")
    with pytest.raises(InputError, match=r"00001\.json is of another run; delete it"):
        call(tmp_path / "s", side, work)


def test_what_is_no_file_is_no_shard(tmp_path, side, work):
    call(tmp_path / "s", side, work)
    path = tmp_path / "s" / "00001.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"00001\.json cannot be read .*named pipe"):
        call(tmp_path / "s", side, work)


def test_only_what_killed_runs_have_left_is_removed(tmp_path, side, work):
    folder = tmp_path / "s"
    call(folder, side, work)
    left = folder / ".00001.json.123-abcdef01.tmp"
    left.write_text("half")
    with replacing(folder / "00009.json") as written:
        written.write_text("another process is writing this")
        call(folder, side, work)
        assert written.exists() and not left.exists()


def test_damaged_or_missing_manifests(tmp_path, side, work):
    call(tmp_path / "s", side, work)
    manifest = tmp_path / "s" / "manifest.json"
    manifest.write_text("[]")
    with pytest.raises(InputError, match="no JSON object"):
        call(tmp_path / "s", side, work)
    manifest.unlink()
    with pytest.raises(InputError, match=r"no manifest\.json"):
        call(tmp_path / "s", side, work)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        call(tmp_path / "file", side, work)


def test_a_full_disk_ends_in_a_sentence(tmp_path, side, work, monkeypatch):
    write_text = Path.write_text

    def full(path, *arguments):
        if "00001" in path.name:
            write_text(path, "half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, *arguments)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"00001\.json .*No space left"):
        call(tmp_path / "s", side, work)
    assert sorted(contents(tmp_path / "s")) == ["00000.json", "manifest.json"]
    monkeypatch.undo()
    assert len(call(tmp_path / "s", side, work)) == 3


def test_the_fingerprint_is_of_names_and_contents(work):
    before = fingerprint(work)
    assert fingerprint(work) == before
    file = work.folder / "5.png"
    data = file.read_bytes()
    file.write_bytes(b"x")
    changed = fingerprint(work)
    file.unlink()
    missing = fingerprint(work)
    file.write_bytes(data)
    assert len({before, changed, missing}) == 3 and fingerprint(work) == before
    assert fingerprint(Work(work.folder, work.images[1:], 3)) != before


def test_the_shard_on_disk_is_plain(tmp_path, side, work):
    call(tmp_path / "s", side, work)
    values = json.loads((tmp_path / "s" / "00002.json").read_text())
    assert values["images"][0] == {
        "image_id": 136, "failure": None, "detections": [[0.0, 0.0, 37.0, 1.0, 0.5, 2.0]],
    }  # fmt: skip
