"""Archives of every kind around every kind of container, honest ones and hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from converter.fetch import packings
from converter.fetch.archive import extract_container
from converter.fetch.cached import from_archive, from_packed_files
from converter.fetch.packings import ArchiveError, NotAnArchiveError, looks_like_archive
from converter.fetch.sources import resolve
from converter.fetch.streams import MAX_PARTS
from efficientdet_spec import InputError, file_sha256
from efficientdet_spec.errors import MAX_BYTES

DATA = bytes(range(256)) * 100
CONFIG = {"d0/config.yaml": b"num_classes: 3\n"}
CONTAINERS = {
    "checkpoint": (
        {
            "d0/checkpoint": b'model_checkpoint_path: "model"\n',
            "d0/model.index": b"index",
            "d0/model.data-00000-of-00001": DATA,
        },
        "model",
    ),
    "SavedModel": (
        {
            "d0/saved_model.pb": b"graph",
            "d0/variables/variables.index": b"index",
            "d0/variables/variables.data-00000-of-00001": DATA,
        },
        "saved_model.pb",
    ),
    "h5": ({"d0/weights.h5": DATA}, "weights.h5"),
    "pb": ({"d0/d0_frozen.pb": DATA}, "d0_frozen.pb"),
    "pth": ({"d0/d0.pth": DATA}, "d0.pth"),
    "safetensors": ({"d0/d0.safetensors": DATA}, "d0.safetensors"),
}
BESIDE = {
    "d0/README.md": b"read me",
    "d0/keras_metadata.pb": b"of Keras",
    "d0/graph.pbtxt": b"node {}",
    "d0/d0.tflite": b"of another kind",
    "__MACOSX/d0/._weights.h5": b"of a Mac",
}


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for folder in sorted({f"{Path(name).parent}/" for name in files if "/" in name}):
            archive.mkdir(folder) if hasattr(archive, "mkdir") else archive.writestr(folder, b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


PACKED = {"x.tar": tarred, "x.tar.gz": tarred, "x.tgz": tarred, "x.zip": zipped}


def files_in(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden leftovers included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def unpacked(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix("d0/"): content for name, content in files.items()}


@pytest.mark.parametrize("config", [{}, CONFIG], ids=["alone", "with config.yaml"])
@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("name", PACKED)
def test_every_container_in_every_archive(tmp_path, name, kind, config):
    files, place = CONTAINERS[kind]
    path = PACKED[name](tmp_path / name, {**BESIDE, **files, **config})
    out = tmp_path / "out" / "it"
    assert extract_container(path, out) == out / place
    assert files_in(tmp_path / "out") == {f"it/{k}": v for k, v in unpacked(files | config).items()}
    stamp = out.stat().st_mtime_ns, sorted(each.stat().st_ino for each in out.rglob("*"))
    extract_container(path, out)
    assert stamp == (out.stat().st_mtime_ns, sorted(e.stat().st_ino for e in out.rglob("*")))
    # What was changed meanwhile is found, and made good.
    largest = max(out.rglob("*"), key=lambda each: each.stat().st_size * each.is_file())
    largest.write_bytes(largest.read_bytes()[::-1])
    extract_container(path, out)
    assert files_in(out) == unpacked(files | config)


@pytest.mark.parametrize("name", ["d0_ids.h5.gz", "d0.pb.gz", "d0.pth.gz", "odd.gz", "odd"])
def test_a_single_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(DATA))
    inner = name.removesuffix(".gz")
    place = extract_container(path, tmp_path / "out" / "it")
    assert place == tmp_path / "out" / "it" / inner
    assert files_in(tmp_path / "out") == {f"it/{inner}": DATA}


def test_a_single_file_with_an_odd_name(tmp_path):
    path = tmp_path / "a\nb.gz"
    path.write_bytes(gzip.compress(DATA))
    assert extract_container(path, tmp_path / "out").name == "unpacked"


def test_a_tar_archive_is_told_from_a_single_file_without_a_suffix(tmp_path):
    path = tarred(tmp_path / "x.tgz", CONTAINERS["h5"][0]).rename(tmp_path / "download")
    assert extract_container(path, tmp_path / "out") == tmp_path / "out" / "weights.h5"


@pytest.mark.parametrize("name", PACKED)
def test_several_containers_are_named(tmp_path, name):
    files = {**CONTAINERS["checkpoint"][0], **CONTAINERS["pb"][0], **CONTAINERS["SavedModel"][0]}
    with pytest.raises(ArchiveError, match="3 models' files") as refused:
        extract_container(PACKED[name](tmp_path / name, files), tmp_path / "out")
    for named in ("d0/model", "d0/d0_frozen.pb", "d0/saved_model.pb"):
        assert repr(named) in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_variables_of_a_saved_model_are_no_checkpoint(tmp_path):
    files = {**CONTAINERS["SavedModel"][0], "d0/variables/model.index": b"index"}
    with pytest.raises(ArchiveError, match="2 models' files"):
        extract_container(zipped(tmp_path / "x.zip", files), tmp_path / "out")


def test_what_will_be_refused_is_there_to_be_told(tmp_path):
    path = zipped(tmp_path / "x.zip", {"d0/d0.tflite": b"\x1c\0\0\0TFL3"})
    assert extract_container(path, tmp_path / "out").name == "d0.tflite"


def special(mode: int):
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = mode << 16

    return change


def named(name: str):
    def change(info: zipfile.ZipInfo) -> None:
        info.filename = name

    return change


HOSTILE = {
    "link": (special(stat.S_IFLNK | 0o777), "a symbolic link"),
    "device": (special(stat.S_IFBLK | 0o666), "a device or other special"),
    "pipe": (special(stat.S_IFIFO | 0o666), "a device or other special"),
    "out": (named("../../x.h5"), "leads out of the archive"),
    "absolute": (named("/etc/x.h5"), "leads out of the archive"),
    "drive": (named("C:/x.h5"), "leads out of the archive"),
    "backslash": (named("d0\\x.h5"), "a malformed entry"),
    "escape": (named("\x1b[2J.h5"), "a malformed entry"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members(tmp_path, kind):
    change, told = HOSTILE[kind]
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d0/weights.h5", DATA)
        info = zipfile.ZipInfo("d0/other.txt")
        change(info)
        archive.writestr(info, b"x")
    with pytest.raises(ArchiveError, match=told) as refused:
        extract_container(path, tmp_path / "out" / "it")
    assert str(refused.value).isprintable() and len(str(refused.value).encode()) <= MAX_BYTES
    assert not (tmp_path / "out").exists()


def flagged(path: Path, bit: int) -> None:
    """Sets a bit of every member's flags, in both places."""
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= bit
            start = content.find(mark, start + 4)
    path.write_bytes(content)


def test_encrypted_members(tmp_path):
    path = zipped(tmp_path / "x.zip", CONTAINERS["h5"][0])
    flagged(path, 1)
    with pytest.raises(ArchiveError, match="encrypted"):
        extract_container(path, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods(tmp_path, method):
    path = zipped(tmp_path / "x.zip", CONTAINERS["h5"][0], method)
    with pytest.raises(ArchiveError, match="another method than deflate"):
        extract_container(path, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.h5", DATA)
        archive.writestr("weights.h5", DATA[::-1])
    with pytest.raises(ArchiveError, match="holds 'weights.h5' twice"):
        extract_container(path, tmp_path / "out")


def test_members_that_overlap(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.h5": DATA, "b.txt": DATA}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    second = content.rfind(b"PK\x01\x02")
    first = content.find(b"PK\x01\x02")
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="overlap"):
        extract_container(path, tmp_path / "out")


def test_a_bomb(tmp_path):
    zip_ = zipped(tmp_path / "x.zip", {"a.h5": bytes(2**21)})
    single = tmp_path / "a.h5.gz"
    single.write_bytes(gzip.compress(bytes(2**21)))
    for path in (zip_, single):
        with pytest.raises(ArchiveError, match="more than the 1,048,576 bytes"):
            extract_container(path, tmp_path / "out" / "it", max_bytes=2**20)
        assert not (tmp_path / "out").exists()


def test_gzip_headers_and_empty_parts_take_little_time(tmp_path):
    path = tmp_path / "x.h5.gz"
    empty = gzip.compress(b"")
    for content, words in (
        (b"\x1f\x8b\x08\x10" + bytes(6) + b"c" * 2**26, "damaged, truncated"),
        (empty * (MAX_PARTS + 1), "more than 131,072 parts"),
        (empty * 3 + gzip.compress(DATA) + bytes(20_000) + empty + b"x", "damaged, truncated"),
    ):
        path.write_bytes(content)
        began = time.monotonic()
        with pytest.raises(ArchiveError, match=words):
            extract_container(path, tmp_path / "out")
        assert time.monotonic() - began < 10 and not (tmp_path / "out").exists()


def test_gzip_files_one_behind_the_other(tmp_path):
    path = tmp_path / "x.h5.gz"
    pieces = [os.urandom(count) for count in (0, 1, 0, 2**14, 70_001)]
    path.write_bytes(b"".join(map(gzip.compress, pieces)) + bytes(2**15))
    assert extract_container(path, tmp_path / "out").read_bytes() == b"".join(pieces)


def test_a_size_that_is_less_than_the_content(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.h5": bytes(2**21)})
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.find(mark)
        content[start + place : start + place + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="CRC"):
        extract_container(path, tmp_path / "out")


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(packings, "MAX_MEMBERS", 5)
    path = zipped(tmp_path / "x.zip", {f"{number}.txt": b"" for number in range(6)})
    with pytest.raises(ArchiveError, match="more than 5 members"):
        extract_container(path, tmp_path / "out")


def test_a_table_of_contents_of_any_size_is_not_read(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", {f"{'long' * 20}/{number}": b"" for number in range(1000)})
    monkeypatch.setattr(packings, "_DIRECTORY_BYTES", 70_000)
    with pytest.raises(ArchiveError, match="table of contents is far too long"):
        extract_container(path, tmp_path / "out")


@pytest.mark.parametrize("name", ["x.zip", "a.h5.gz"])
def test_damage_is_found(tmp_path, name):
    path = tmp_path / name
    if name == "x.zip":
        zipped(path, CONTAINERS["h5"][0], zipfile.ZIP_STORED)
    else:
        path.write_bytes(gzip.compress(os.urandom(5000)))
    content = path.read_bytes()
    for changed in (
        content[:2000] + b"\0" + content[2001:],
        content[:-7],
        content[: len(content) // 2],
        content[:4],
    ):
        path.write_bytes(changed)
        with pytest.raises(ArchiveError, match="damaged, truncated or not"):
            extract_container(path, tmp_path / "out" / "it")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("torch", ["archive/data.pkl", "d0/data.pkl"])
def test_a_pytorch_file_is_not_unpacked(tmp_path, torch):
    path = zipped(tmp_path / "x.pth", {torch: b"", "archive/data/0": DATA, "a.h5": DATA})
    assert looks_like_archive(path)
    with pytest.raises(NotAnArchiveError, match="a PyTorch file"):
        extract_container(path, tmp_path / "out")


def test_what_looks_like_an_archive(tmp_path):
    for name, pack in PACKED.items():
        assert looks_like_archive(pack(tmp_path / name, CONTAINERS["h5"][0]))
    for content in (b"", b"BZh91AY", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "x").write_bytes(content * 100)
        assert not looks_like_archive(tmp_path / "x")


@pytest.fixture
def packed(tmp_path):
    """Writes files, those that end in ``.gz`` compressed."""

    def write(files: dict[str, bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / "here" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / "here"

    return write


CHECKPOINT = {
    "checkpoint": b'model_checkpoint_path: "model"\n',
    "model.index": b"index",
    "model.data-00000-of-00001.gz": DATA,
}
SAVED = {
    "saved_model.pb.gz": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001.gz": DATA,
}


@pytest.mark.parametrize(
    ("files", "named", "place"),
    [
        (CHECKPOINT, "", "model"),
        (CHECKPOINT, "model", "model"),
        (CHECKPOINT, "model.index", "model"),
        (CHECKPOINT, "model.data-00000-of-00001.gz", "model"),
        (CHECKPOINT, "checkpoint", "model"),
        (CHECKPOINT | {"other.index": b""}, "model", "model"),
        (CHECKPOINT | {"config.yaml": b"x"}, "model", "model"),
        (CHECKPOINT | {"o.index.gz": b"", "o.data-00000-of-00001": b""}, "", "model"),
        (SAVED, "", "saved_model.pb"),
        (SAVED, "saved_model.pb.gz", "saved_model.pb"),
        (SAVED, "variables", "saved_model.pb"),
        (SAVED, "variables/variables", "saved_model.pb"),
        (SAVED, "variables/variables.index", "saved_model.pb"),
        (SAVED | {"saved_model.pb": b"graph"}, "", "saved_model.pb"),
        ({"d0.h5.gz": DATA}, "", "d0.h5"),
    ],
)
def test_files_that_are_packed_one_by_one(packed, tmp_path, files, named, place):
    found = from_packed_files(packed(files) / named, tmp_path / "cache")
    folder = tmp_path / "cache" / "checkpoints" / found.archive_sha256
    assert found.prefix == folder / place
    kept = {name for name in files if not name.startswith(("o.", "other."))}
    assert files_in(folder) == {name.removesuffix(".gz"): files[name] for name in kept}
    before = folder.stat().st_mtime_ns
    assert from_packed_files(tmp_path / "here" / named, tmp_path / "cache") == found
    assert folder.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({name.removesuffix(".gz"): content for name, content in CHECKPOINT.items()}, ""),
        ({name.removesuffix(".gz"): content for name, content in SAVED.items()}, ""),
        (CHECKPOINT, "none/such"),
        ({"d0.h5.gz": DATA}, "d0.h5.gz"),
        ({"d0.h5": DATA, "old.h5.gz": DATA}, ""),
        ({"README.gz": b"x"}, ""),
    ],
)
def test_what_is_not_packed_is_left_to_others(packed, tmp_path, files, named):
    assert from_packed_files(packed(files) / named, tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", ["zeros", "pipe", "folder", "nothing", "itself"])
def test_what_is_no_file_among_packed_ones_is_not_waited_for(kind, tmp_path):
    folder = tmp_path / "d0"
    folder.mkdir()
    for path in (folder / "model.index.gz", folder / "model.data-00000-of-00001.gz"):
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            leads = {"zeros": "/dev/zero", "nothing": "nowhere", "itself": path.name}
            path.symlink_to(leads[kind])
    assert from_packed_files(folder, tmp_path / "cache") is None
    with pytest.raises(InputError):
        resolve(str(folder), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*model*"))


def test_several_packed_containers_are_named(packed, tmp_path):
    folder = packed({"a.h5.gz": DATA, "b.pb.gz": DATA})
    with pytest.raises(ArchiveError, match=r"2 models' files \('a.h5', 'b.pb'\)"):
        from_packed_files(folder, tmp_path / "cache")


def test_packed_files_that_are_damaged(packed, tmp_path):
    folder = packed(CHECKPOINT)
    data = folder / "model.data-00000-of-00001.gz"
    data.write_bytes(data.read_bytes()[:-5])
    with pytest.raises(InputError, match="damaged, truncated"):
        from_packed_files(folder, tmp_path / "cache")
    assert files_in(tmp_path / "cache") == {}


def test_the_official_tools_files_as_they_are(test_data, tmp_path):
    folder = test_data / "formats"
    places = {
        "d0_tf1_saved_model_ids": "saved_model.pb",
        "lite0_tf2_saved_model_ids": "saved_model.pb",
        "lite0_tf2_training_ids": "emackpt-1",
    }
    for name, place in places.items():
        found = from_packed_files(folder / name, tmp_path)
        assert found.prefix.name == place and any(found.prefix.parent.rglob("*.index"))
    for path in sorted(folder.glob("*.gz")):
        assert from_packed_files(path, tmp_path) is None
        found = from_archive(path, "here", file_sha256(path), tmp_path)
        assert found.prefix.read_bytes() == gzip.decompress(path.read_bytes())
    assert from_packed_files(folder / "lite0_tf2", tmp_path) is None
