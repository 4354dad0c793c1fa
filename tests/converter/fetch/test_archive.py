"""Unpacking checkpoints, from honest archives and from hostile ones."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from converter.fetch import archive as archive_module
from converter.fetch import packings
from converter.fetch.archive import extract_container
from converter.fetch.packings import ArchiveError
from converter.tensorflow_files.naming import checkpoint_prefix, parse_state_file
from efficientdet_spec import InputError, locked

ROOT = Path(__file__).parents[3]
INDEX = b"the index"
DATA = bytes(range(256)) * 100
MODEL = {
    "d0/checkpoint": b'model_checkpoint_path: "model"\n',
    "d0/model.index": INDEX,
    "d0/model.data-00000-of-00001": DATA,
    "d0/model.meta": b"graph",
}


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""):
    """Returns one member for `pack`."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.type = kind
    info.linkname = link
    return info, content


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    """Writes an archive of the given members."""
    with tarfile.open(path, mode) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def entries(files: dict[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Returns plain members."""
    return [entry(name, content) for name, content in files.items()]


def files_in(folder: Path) -> dict[str, bytes]:
    """Returns everything below a folder, hidden leftovers included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that does not exist yet, in a folder of its own."""
    return tmp_path / "out" / "checkpoint"


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_extracts_the_checkpoint_and_nothing_else(tmp_path, out, mode, format):
    members = [
        entry("./", kind=tarfile.DIRTYPE),
        entry("./d0/", kind=tarfile.DIRTYPE),
        *entries({"./" + name: content for name, content in MODEL.items()}),
        *entries({"d0/README": b"hello", "d0/._model.index": b"macOS", "empty": b""}),
    ]
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, mode, format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    assert extract_container(path, out) == out / "model"
    assert files_in(out.parent) == {
        name.replace("d0/", "checkpoint/"): content for name, content in MODEL.items()
    }


def test_long_names_and_a_lone_index(tmp_path, out):
    name = "x" * 150
    path = pack(tmp_path / "a.tgz", entry(f"{'y' * 120}/{name}.index", INDEX))
    assert extract_container(path, out) == out / name


def test_a_complete_folder_is_reused_and_a_damaged_one_replaced(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    extract_container(path, out)
    before = (out / "model.index").stat()
    assert extract_container(path, out) == out / "model"
    assert (out / "model.index").stat().st_ino == before.st_ino
    (out / "model.meta").unlink()
    (out / "model.data-00000-of-00001").write_bytes(DATA[:100])
    extract_container(path, out)
    assert files_in(out)["model.data-00000-of-00001"] == DATA
    assert files_in(out)["model.meta"] == b"graph"


def test_a_folder_with_other_files_is_left_alone(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    out.mkdir(parents=True)
    (out / "thesis.txt").write_text("the only copy")
    with pytest.raises(InputError, match="cannot be written"):
        extract_container(path, out)
    assert files_in(out.parent) == {"checkpoint/thesis.txt": b"the only copy"}


@pytest.mark.parametrize(
    ("member", "found"),
    [
        (entry("/etc/model.index", INDEX), "leads out"),
        (entry("../model.index", INDEX), "leads out"),
        (entry("d0/../../model.index", INDEX), "leads out"),
        (entry("d0\\..\\..\\model.index", INDEX), "leads out"),
        (entry("C:/model.index", INDEX), "leads out"),
        (entry("C:model.index", INDEX), "leads out"),
        (entry("\\\\host\\share\\model.index", INDEX), "leads out"),
        (entry("d0\\model.index", INDEX), "malformed"),
        (entry("d0/mo\ndel.index", INDEX), "malformed"),
        (entry("d0/link.index", kind=tarfile.SYMTYPE, link="/etc/passwd"), "symbolic link"),
        (entry("d0", kind=tarfile.SYMTYPE, link="/etc"), "symbolic link"),
        (entry("d0/link.index", kind=tarfile.LNKTYPE, link="d0/model.index"), "hard link"),
        (entry("d0/null", kind=tarfile.CHRTYPE), "device"),
        (entry("d0/disk", kind=tarfile.BLKTYPE), "device"),
        (entry("d0/pipe", kind=tarfile.FIFOTYPE), "device"),
        (entry("d0/what", kind=b"Z"), "special file"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_hostile_members_stop_everything(tmp_path, out, member, found, first):
    members = [member, *entries(MODEL)] if first else [*entries(MODEL), member]
    path = pack(tmp_path / "a.tgz", *members)
    with pytest.raises(ArchiveError, match=found) as caught:
        extract_container(path, out)
    assert "nothing was extracted" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.parent.exists()


def test_without_the_member_check_hostile_archives_pass(tmp_path, out, monkeypatch):
    monkeypatch.setattr(packings, "_checked_path", lambda member, _: PurePosixPath(member.name))
    path = pack(tmp_path / "a.tgz", entry("../model.index", INDEX), entry("p", kind=b"6"))
    extract_container(path, out)
    # The second wall: folders of the archive are dropped, so that even then nothing escapes.
    assert files_in(tmp_path / "out") == {"checkpoint/model.index": INDEX}


def test_negative_size_is_refused(tmp_path, out):
    info, _ = entry("d0/model.index")
    info.pax_headers = {"size": "-1024"}
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    with pytest.raises(ArchiveError, match="malformed"):
        extract_container(path, out)


def test_twice_the_same_member(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL), entry("./d0/model.index", b"other"))
    with pytest.raises(ArchiveError, match="twice"):
        extract_container(path, out)


def test_several_checkpoints_need_a_state_file(tmp_path, out):
    two = {"d0/a.index": b"a", "d0/b.index": b"b", "d0/b.data-00000-of-00001": b"bb"}
    path = pack(tmp_path / "a.tgz", *entries(two))
    with pytest.raises(ArchiveError, match="2 checkpoints .'d0/a', 'd0/b'."):
        extract_container(path, out)
    state = {"d0/checkpoint": b'model_checkpoint_path: "/train/run/b"\n'}
    path = pack(tmp_path / "b.tgz", *entries({**two, **state}))
    assert extract_container(path, out) == out / "b"
    assert sorted(files_in(out)) == ["b.data-00000-of-00001", "b.index", "checkpoint"]


def test_the_state_file_of_another_folder_does_not_count(tmp_path, out):
    members = {
        "x/a.index": b"",
        "y/a.index": b"",
        "z/checkpoint": b'model_checkpoint_path: "a"',
    }
    with pytest.raises(ArchiveError, match="2 checkpoints"):
        extract_container(pack(tmp_path / "a.tgz", *entries(members)), out)


@pytest.mark.parametrize("files", [{}, {"README": b"hi"}, {"model.meta": b"graph"}])
def test_no_checkpoint(tmp_path, out, files):
    with pytest.raises(ArchiveError, match="no TensorFlow checkpoint"):
        extract_container(pack(tmp_path / "a.tgz", *entries(files)), out)


@pytest.mark.parametrize("keep", [0, 1, 5, 200, -9, -4, -1])
def test_truncated_gzip(tmp_path, out, keep):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArchiveError, match="damaged, truncated or not"):
        extract_container(path, out)
    assert not out.parent.exists()


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 30])
def test_truncated_tar(tmp_path, out, blocks):
    path = pack(tmp_path / "a.tar", *entries(MODEL), mode="w")
    path.write_bytes(path.read_bytes()[: blocks * 512])
    with pytest.raises(ArchiveError, match="damaged, truncated or not"):
        extract_container(path, out)


def test_a_damaged_header_is_not_the_end(tmp_path, out):
    path = pack(tmp_path / "a.tar", *entries(MODEL), mode="w")
    content = bytearray(path.read_bytes())
    start = content.index(b"d0/model.data-00000")
    content[start] ^= 1
    path.write_bytes(content)
    with tarfile.open(path) as tar:  # tarfile itself stops there in silence.
        assert tar.getnames() == ["d0/checkpoint", "d0/model.index"]
    with pytest.raises(ArchiveError, match="does not end like a tar"):
        extract_container(path, out)


def test_wrong_gzip_checksum(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="incorrect data check"):
        extract_container(path, out)
    assert not out.parent.exists()


@pytest.mark.parametrize("content", [b"<html>Sign in</html>" * 99, b"PK\3\4" * 500, b"\0" * 10])
def test_not_an_archive(tmp_path, out, content):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="not a .tar.gz"):
        extract_container(path, out)


def test_no_such_archive(tmp_path, out):
    with pytest.raises(InputError, match="cannot be opened"):
        extract_container(tmp_path / "none.tgz", out)


def test_byte_flips_never_escape_as_other_errors(tmp_path, monkeypatch):
    # What is written here need not outlive a loss of power.
    monkeypatch.setattr(archive_module, "sync", lambda path: None)
    monkeypatch.setattr(archive_module, "sync_folder", lambda path: None)
    plain = tmp_path / "a.tar"
    pack(plain, *entries(MODEL), mode="w")
    original = plain.read_bytes()
    for position in range(0, 1100, 7):
        for value in (0, 0xFF, ord("x"), ord("7")):
            content = bytearray(original)
            content[position] = value
            # With its checksum made good, so that the damage gets past the first check.
            block = position // 512 * 512
            header = content[block : block + 512]
            if header[257:262] == b"ustar":
                header[148:156] = b" " * 8
                content[block + 148 : block + 156] = b"%06o\0 " % sum(header)
            plain.write_bytes(content)
            try:
                extract_container(plain, tmp_path / "flips" / f"{position}-{value}")
            except InputError as error:
                assert "\n" not in str(error)


def test_total_size_limit(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    with pytest.raises(ArchiveError, match="more than the 20,000 bytes"):
        extract_container(path, out, max_bytes=20_000)
    assert not out.parent.exists()
    extract_container(path, out, max_bytes=60_000)


def test_a_claimed_size_is_refused_before_it_is_read(tmp_path, out):
    info, _ = entry("d0/model.index")
    info.size = 2**50
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(100_000)))
    with pytest.raises(ArchiveError, match="more than the 4,294,967,296 bytes"):
        extract_container(path, out)


def test_a_sparse_member_counts_in_full(tmp_path, out):
    info, _ = entry("d0/model.index")
    info.pax_headers = {"GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,0"}
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    with tarfile.open(path) as tar:
        assert tar.getmembers()[0].size == 2**40
    with pytest.raises(ArchiveError, match="more than the 4,294,967,296 bytes"):
        extract_container(path, out)


def test_zeros_after_the_end_count(tmp_path, out):
    path = pack(tmp_path / "a.tar", *entries(MODEL), mode="w")
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(2**21)))
    with pytest.raises(ArchiveError, match="more than"):
        extract_container(path, out, max_bytes=2**20)


def test_a_huge_header_is_not_read_into_memory(tmp_path, out):
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        info, _ = entry("pax", kind=kind)
        info.size = 2**24
        path = tmp_path / "a.tgz"
        path.write_bytes(gzip.compress(info.tobuf() + bytes(2**24)))
        with pytest.raises(ArchiveError, match="header is far too long"):
            extract_container(path, out)


def test_nested_headers(tmp_path, out):
    info, _ = entry("pax", kind=tarfile.XHDTYPE)
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(info.tobuf() * 5000))
    with pytest.raises(ArchiveError, match="damaged"):
        extract_container(path, out)


def test_member_limit(tmp_path, out, monkeypatch):
    monkeypatch.setattr(packings, "MAX_MEMBERS", 5)
    many = {f"{number}.txt": b"" for number in range(6)}
    with pytest.raises(ArchiveError, match="more than 5 members"):
        extract_container(pack(tmp_path / "a.tgz", *entries(many)), out)


def test_disk_too_small(tmp_path, out, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda path: usage(9, 8, 1))
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    with pytest.raises(InputError, match="1 bytes free"):
        extract_container(path, out)
    assert files_in(out.parent) == {}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_when_writing_ends_early(tmp_path, out, monkeypatch, error):
    real: Callable = packings._chunks
    read = []

    def failing(tar, member, reader):
        yield from real(tar, member, reader)
        read.append(member.name)
        # It is read to be checked first, and then to be written.
        if read.count("d0/model.meta") == 2:
            raise error

    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    monkeypatch.setattr(packings, "_chunks", failing)
    with pytest.raises((InputError, KeyboardInterrupt)):
        extract_container(path, out)
    assert list(out.parent.iterdir()) == []


def test_full_disk_while_writing(tmp_path, out, monkeypatch):
    def full(ready, destination, plan, aside):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module, "_move", full)
    with pytest.raises(InputError, match="No space left") as caught:
        extract_container(pack(tmp_path / "a.tgz", *entries(MODEL)), out)
    assert not isinstance(caught.value, ArchiveError)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("change", ["links", "names", "sizes", "contents", "fewer", "shorter"])
def test_an_archive_that_changes_between_check_and_extraction(tmp_path, out, monkeypatch, change):
    path = pack(tmp_path / "a.tar", *entries(MODEL), mode="w")
    members = {
        "links": [entry(name, kind=tarfile.SYMTYPE, link="/etc/passwd") for name in MODEL],
        "names": [entry(name + "2", content) for name, content in MODEL.items()],
        "contents": [entry(name, content[::-1]) for name, content in MODEL.items()],
        "sizes": [entry(name, content + b"2") for name, content in MODEL.items()],
        "fewer": entries(MODEL)[:2],
        "shorter": entries(MODEL),
    }[change]
    other = pack(tmp_path / "other.tar", *members, mode="w").read_bytes()
    real = archive_module._extract

    def swap_first(*arguments):
        path.write_bytes(other[:10_000] if change == "shorter" else other)
        real(*arguments)

    monkeypatch.setattr(archive_module, "_extract", swap_first)
    with pytest.raises(ArchiveError):
        extract_container(path, out)
    assert list(out.parent.iterdir()) == []


def test_what_was_extracted_is_verified_each_time(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    extract_container(path, out)
    for name, content in MODEL.items():
        file = out / PurePosixPath(name).name
        # Of the same name and size, and at the same moment.
        before = file.stat()
        file.write_bytes(b"?" * len(content))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert extract_container(path, out) == out / "model"
        assert file.read_bytes() == content
    assert [entry.name for entry in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("make", [os.symlink, "fifo", "folder"])
def test_what_is_no_regular_file_is_replaced_or_left_but_never_used(tmp_path, out, make):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    extract_container(path, out)
    index, elsewhere = out / "model.index", tmp_path / "elsewhere"
    elsewhere.write_bytes(INDEX)
    index.unlink()
    if make == "folder":
        index.mkdir()
        with pytest.raises(InputError, match="cannot be written"):
            extract_container(path, out)
        assert index.is_dir()
        return
    if make == "fifo":
        os.mkfifo(index)
    else:
        os.symlink(elsewhere, index)
    extract_container(path, out)
    assert index.read_bytes() == INDEX and not index.is_symlink()
    assert elsewhere.read_bytes() == INDEX


def test_a_folder_behind_a_link_is_not_replaced(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.index").write_bytes(b"somebody's")
    out.parent.mkdir()
    os.symlink(other, out)
    with pytest.raises(InputError, match="cannot be written"):
        extract_container(path, out)
    assert (other / "model.index").read_bytes() == b"somebody's"


def test_extra_files_do_not_keep_a_swapped_one_in_use(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    extract_container(path, out)
    (out / "thesis.txt").write_text("the only copy")
    assert extract_container(path, out) == out / "model"
    (out / "model.index").write_bytes(INDEX[::-1])
    with pytest.raises(InputError, match="cannot be written"):
        extract_container(path, out)
    assert (out / "thesis.txt").exists()


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_the_archive_itself_is_digested_in_the_same_pass(tmp_path, out, mode):
    path = pack(tmp_path / "a.tgz", *entries(MODEL), mode=mode)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    extract_container(path, out, sha256=digest)
    with pytest.raises(ArchiveError, match="changed while it was read"):
        extract_container(path, out, sha256="0" * 64)
    other = tmp_path / "other"
    with pytest.raises(ArchiveError, match="changed while it was read"):
        extract_container(path, other, sha256=digest[::-1])
    assert not other.exists()


def test_files_and_folders_are_synced_before_and_after_the_renames(tmp_path, out, monkeypatch):
    done = []
    monkeypatch.setattr(archive_module, "sync", lambda path: done.append(path.name))
    monkeypatch.setattr(archive_module, "sync_folder", lambda path: done.append(path.name))
    real = os.rename
    monkeypatch.setattr(
        archive_module.os, "rename", lambda *paths: (done.append("rename"), real(*paths))
    )
    extract_container(pack(tmp_path / "a.tgz", *entries(MODEL)), out)
    files = [PurePosixPath(name).name for name in MODEL]
    assert done == [*files, "new", "rename", out.parent.name]


def test_workspaces_of_killed_processes_are_swept_and_no_others(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    left = [f".partial-{out.name}-0123abcd", f".partial-{out.name}-4567cdef"]
    foreign = [".partial-thesis", f".partial-{out.name}-mine", f".partial-other{out.name}-0123abcd"]
    for name in [*left, *foreign]:
        (out.parent / name / "new").mkdir(parents=True)
    (out.parent / f"{left[0]}.lock").touch()
    (out.parent / f".partial-{out.name}-89ab0123.lock").touch()
    used = out.parent / f".partial-{out.name}-ffffffff"
    used.mkdir()
    with locked(used.with_name(used.name + ".lock")) as ours:
        assert ours
        extract_container(path, out)
        names = sorted(entry.name for entry in out.parent.iterdir())
        assert names == sorted([*foreign, used.name, used.name + ".lock", out.name])
    # A link of such a name leads somewhere else, where nothing is removed.
    (tmp_path / "precious").mkdir()
    os.symlink(tmp_path / "precious", out.parent / left[0])
    (out / "model.index").unlink()
    extract_container(path, out)
    assert (tmp_path / "precious").is_dir() and not used.exists()


def test_a_killed_extraction_leaves_nothing_for_the_next(tmp_path, out):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    script = (
        "import os, sys; from pathlib import Path; from converter.fetch import archive\n"
        "archive._move = lambda *arguments: os.kill(os.getpid(), 9)\n"
        "archive.extract_container(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", script, str(path), str(out)]
    assert subprocess.run(command, cwd=ROOT).returncode == -9
    assert len(list(out.parent.iterdir())) == 2
    extract_container(path, out)
    assert [entry.name for entry in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "no-ending"])
def test_an_archive_that_is_no_regular_file_does_not_hang(tmp_path, out, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="cannot be opened .it is a named pipe"):
        extract_container(tmp_path / name, out)
    with pytest.raises(InputError, match="cannot be opened .it is a device"):
        extract_container(Path("/dev/zero"), out)


@pytest.mark.parametrize("name", ["mo\x1b[2Jdel", "mo\rdel", "mo\u202edel", "mo\x9bdel"])
def test_names_in_an_archive_move_no_cursor(tmp_path, out, name):
    for files in (
        {f"d0/{name}.index": INDEX},
        {
            "d0/checkpoint": f'model_checkpoint_path: "{name}"'.encode(),
            "a.index": b"",
            "b.index": b"",
        },
    ):
        with pytest.raises(ArchiveError) as caught:
            extract_container(pack(tmp_path / "a.tgz", *entries(files)), out)
        assert str(caught.value).isprintable()


def test_another_process_was_faster(tmp_path, out, monkeypatch):
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    real = os.rename
    raced = []

    def rename(source, target):
        if not raced:
            raced.append(True)
            extract_container(path, out)
        real(source, target)

    monkeypatch.setattr(archive_module.os, "rename", rename)
    assert extract_container(path, out) == out / "model"
    assert raced
    assert len(files_in(out.parent)) == 4


def test_destination_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    path = pack(tmp_path / "a.tgz", *entries(MODEL))
    with pytest.raises(InputError, match="cannot be written"):
        extract_container(path, tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("model.index", "model"),
        ("d0/model.ckpt-12.data-00001-of-00002", "d0/model.ckpt-12"),
        ("model.meta", "model"),
        ("model.data-0-of-1", None),
        ("checkpoint", None),
        (".index", None),
        ("d0/._model.index", None),
        ("model.index.txt", None),
    ],
)
def test_checkpoint_prefix(name, prefix):
    assert checkpoint_prefix(name) == prefix


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b'model_checkpoint_path: "model"\nall_model_checkpoint_paths: "x"', "model"),
        (b"all_model_checkpoint_paths: \"x\"\r\n  model_checkpoint_path : 'm'\r\n", "m"),
        (rb'model_checkpoint_path: "C:\\train\\ckpt-1"', "C:/train/ckpt-1"),
        (rb'model_checkpoint_path: "\303\251t\xc3\xa9 \"a\""', 'été "a"'),
        (rb'model_checkpoint_path: "a\nb"', None),
        (b'model_checkpoint_path: "a\0b"', None),
        (b'model_checkpoint_path: ""', None),
        (b'model_checkpoint_path: "never ends\n', None),
        (b'all_model_checkpoint_paths: "x"', None),
        (b"\xff\xfe\x00", None),
        (b"\n" * 2**20, None),
    ],
)
def test_parse_state_file(content, path):
    assert parse_state_file(content) == path
