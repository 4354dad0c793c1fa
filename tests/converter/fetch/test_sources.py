"""Every way to name a checkpoint, and every way to get it wrong."""

import hashlib
import http.server
import io
import os
import re
import shutil
import socket
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest

from converter.fetch import sources
from converter.fetch.cached import CheckpointFiles
from converter.fetch.packings import ArchiveError
from converter.fetch.sources import default_cache, resolve
from efficientdet_spec import Cause, InputError

FILES = {
    "checkpoint": b'model_checkpoint_path: "model"\n',
    "model.index": b"the index",
    "model.data-00000-of-00001": b"the data",
    "model.meta": b"the graph",
}


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"efficientdet-d0/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    """A checkpoint folder."""
    return fill(tmp_path / "d0", FILES)


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A folder and the address at which it is served; `web.hits` lists what was asked for."""
    monkeypatch.setenv("no_proxy", "*")

    class Web:
        folder = fill(tmp_path / "web", {})
        hits: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            Web.hits.append(self.path)

    handler = partial(Handler, directory=str(Web.folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    Web.url = f"http://127.0.0.1:{server.server_port}"
    yield Web
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "name",
    ["", "model", "model.index", "model.data-00000-of-00001", "model.meta", "checkpoint"],
)
def test_local_forms(model, cache, name):
    expected = CheckpointFiles(model / "model", str(model / "model"), None)
    assert resolve(str(model / name), cache) == expected
    assert not cache.exists()


def test_relative_and_home_paths(model, cache, monkeypatch):
    monkeypatch.chdir(model.parent)
    assert resolve("d0/model", cache).prefix == Path("d0/model")
    assert resolve("d0", cache).origin == str(model / "model")
    monkeypatch.setenv("HOME", str(model.parent))
    assert resolve("~/d0", cache).prefix == model / "model"


def test_an_index_alone_is_enough(tmp_path, cache):
    folder = fill(tmp_path / "x", {"model.ckpt-7.index": b""})
    for source in (folder, folder / "model.ckpt-7", folder / "model.ckpt-7.index"):
        assert resolve(str(source), cache).prefix == folder / "model.ckpt-7"


@pytest.mark.parametrize("name", ["model.meta", "model.data-00000-of-00001"])
def test_a_part_without_its_index(tmp_path, cache, name):
    folder = fill(tmp_path / "x", {name: b""})
    with pytest.raises(InputError, match="'model.index' is not beside it"):
        resolve(str(folder / name), cache)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("b", "b"),
        ("./b", "b"),
        ("/train/run/b", "b"),
        ("../other/b", "b"),
        ("sub/../../d0/b", "b"),
        (r"C:\\train\\b", "b"),
        ("gs://bucket/run/b", "b"),
        ("sub/c", "sub/c"),
        ("gone/b", "b"),
    ],
)
def test_state_file_decides(tmp_path, cache, state, expected):
    folder = fill(
        tmp_path / "x",
        {
            "checkpoint": f'model_checkpoint_path: "{state}"'.encode(),
            **{name: b"" for name in ("a.index", "b.index", "sub/c.index")},
        },
    )
    fill(tmp_path / "other", {"b.index": b""})
    assert resolve(str(folder), cache).prefix == folder / expected


@pytest.mark.parametrize("state", ["../secret/c", "..", "/", "{tmp}/secret/c"])
def test_state_file_never_leads_out(tmp_path, cache, state):
    fill(tmp_path / "secret", {"c.index": b""})
    content = f'model_checkpoint_path: "{state}"'.replace("{tmp}", str(tmp_path)).encode()
    folder = fill(tmp_path / "x", {"checkpoint": content, "a.index": b"", "b.index": b""})
    with pytest.raises(InputError, match="2 checkpoints .'a', 'b'. and the one .* is not there"):
        resolve(str(folder), cache)


def test_stale_state_file_beside_one_checkpoint(tmp_path, cache):
    content = b'model_checkpoint_path: "model.ckpt-99"'
    folder = fill(tmp_path / "x", {"checkpoint": content, "model.index": b"", "._m.index": b""})
    assert resolve(str(folder), cache).prefix == folder / "model"


def test_several_checkpoints(tmp_path, cache):
    folder = fill(tmp_path / "x", {f"m-{n:02}.index": b"" for n in range(12)})
    with pytest.raises(InputError, match="'m-05' and 6 more. and no 'checkpoint' file says which"):
        resolve(str(folder), cache)


def test_no_checkpoint(tmp_path, cache):
    with pytest.raises(InputError, match="no checkpoint, found nothing"):
        resolve(str(fill(tmp_path / "empty", {})), cache)
    with pytest.raises(InputError, match="no checkpoint, found 'a.txt', 'b.txt', expected"):
        resolve(str(fill(tmp_path / "x", {"a.txt": b"", "b.txt": b""})), cache)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_read(tmp_path, cache):
    folder = fill(tmp_path / "x", {"model.index": b""})
    os.mkfifo(folder / "checkpoint")
    assert resolve(str(folder), cache).prefix == folder / "model"
    with pytest.raises(InputError, match="neither a file nor a folder"):
        resolve(str(folder / "checkpoint"), cache)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("d0.tflite", b"", "Lite"),
        ("d0.dat", b"\x1c\0\0\0TFL3", "Lite"),
        ("d0.onnx", b"", "ONNX"),
        ("d0.dat", b"\x08\x07\x12\x07pytorch\x1a", "ONNX"),
    ],
)
def test_other_formats(tmp_path, cache, name, content, kind):
    folder = fill(tmp_path / "x", {name: content})
    with pytest.raises(InputError, match=f"looks like .*{kind}.*; give the checkpoint"):
        resolve(str(folder / name), cache)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("d0.h5", "Keras"), ("d0.pth", "PyTorch"), ("d0.pt", "PyTorch"), ("d0.safetensors", "safe")],
)
@pytest.mark.parametrize("content", [b"", b"something else"])
def test_a_name_that_the_content_belies(tmp_path, cache, name, kind, content):
    folder = fill(tmp_path / "x", {name: content})
    state = "holds something else" if content else "is empty"
    message = f"is named like a.* {kind}.* but {state}; copy or download it again"
    with pytest.raises(InputError, match=message) as caught:
        resolve(str(folder / name), cache)
    assert caught.value.cause is Cause.FORMAT


def test_saved_model(tmp_path, cache):
    folder = fill(tmp_path / "x", {"saved_model.pb": b"", "variables/variables.index": b""})
    for source in (folder, folder / "variables", folder / "variables/variables"):
        with pytest.raises(InputError, match="does not begin like one; copy the folder"):
            resolve(str(source), cache)


def test_unknown_file(tmp_path, cache):
    folder = fill(tmp_path / "x", {"notes.txt": b"hello"})
    with pytest.raises(InputError, match="unknown kind; pass a checkpoint's folder"):
        resolve(str(folder / "notes.txt"), cache)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "nothing",
        "efficientdet-d8",
        "efficientdet-lite9",
        "a/b/model.index",
        "x\0y",
        "d0.tar.gz",
    ],
)
def test_nothing_there(tmp_path, cache, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"does not exist( \(did you mean .*\?\))?; pass a checkpoint"
    ) as caught:
        resolve(source, cache)
    assert "efficientdet-d0 to efficientdet-d7, efficientdet-d7x" in str(caught.value)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize("source", ["x" * 5000, "~nobody-has-this-name/x"])
def test_paths_that_the_system_refuses(cache, source):
    with pytest.raises(InputError):
        resolve(source, cache)


def test_unreadable(model, cache, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match="cannot be read .Permission denied"):
        resolve(str(model), cache)


@pytest.mark.parametrize("name", ["d0.tar.gz", "d0.tgz", "no-ending"])
def test_archive(tmp_path, cache, name):
    path = pack(tmp_path / name)
    found = resolve(str(path), cache)
    assert found == CheckpointFiles(
        cache / "checkpoints" / sha256(path) / "model", str(path), sha256(path)
    )
    assert found.prefix.with_name("model.data-00000-of-00001").read_bytes() == b"the data"


def test_archive_is_unpacked_once_and_repaired(tmp_path, cache):
    path = pack(tmp_path / "d0.tgz")
    index = Path(f"{resolve(str(path), cache).prefix}.index")
    before = index.stat().st_ino
    resolve(str(path), cache)
    assert index.stat().st_ino == before
    index.unlink()
    resolve(str(path), cache)
    assert index.read_bytes() == b"the index"


def test_damaged_archive_stays_where_it_is(tmp_path, cache):
    path = fill(tmp_path / "x", {"d0.tar.gz": b"not a tar"}) / "d0.tar.gz"
    with pytest.raises(ArchiveError):
        resolve(str(path), cache)
    assert path.exists()


def test_address(web, cache):
    path = pack(web.folder / "d0.tar.gz")
    amounts = []
    url = f"{web.url}/d0.tar.gz"
    found = resolve(f"{url}?token=secret", cache, lambda *amount: amounts.append(amount))
    assert found.origin == url
    assert found.archive_sha256 == sha256(path)
    assert Path(f"{found.prefix}.index").read_bytes() == b"the index"
    assert amounts[-1] == (path.stat().st_size,) * 2
    assert resolve(f"{url}?token=secret", cache) == found
    assert web.hits == ["/d0.tar.gz?token=secret"]
    assert "secret" not in str([p.name for p in cache.rglob("*")])


def test_addresses_with_equal_file_names_are_kept_apart(web, cache):
    for number in "12":
        pack(fill(web.folder / number, {}) / "d.tgz", {"m.index": number.encode()})
    found = [resolve(f"{web.url}/{number}/d.tgz", cache) for number in "12"]
    assert [Path(f"{f.prefix}.index").read_bytes() for f in found] == [b"1", b"2"]


def test_an_address_that_is_no_archive_is_fetched_again(web, cache):
    (web.folder / "d0.tar.gz").write_bytes(b"<html>please log in</html>")
    with pytest.raises(ArchiveError, match="d0.tar.gz cannot be used: .* not a .tar.gz"):
        resolve(f"{web.url}/d0.tar.gz", cache)
    pack(web.folder / "d0.tar.gz")
    assert resolve(f"{web.url}/d0.tar.gz", cache).prefix.name == "model"


def test_other_schemes(cache):
    for source in ("gs://bucket/d0", "file:///x.tgz", "ftp://host/x.tgz", "s3://b/x"):
        with pytest.raises(InputError, match="address, expected http or https"):
            resolve(source, cache)
    with pytest.raises(InputError) as caught:
        resolve("ftp://me:secret@host/x.tgz", cache)
    assert "secret" not in str(caught.value)


@pytest.fixture
def mirror(web, monkeypatch):
    """The same as ``web``, and official names are downloaded from there."""
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", web.url)
    return web


def test_official_name_without_a_known_hash(web, cache, monkeypatch):
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", web.url + "/")
    path = pack(web.folder / "efficientdet-d7x.tar.gz")
    found = resolve("efficientdet-d7x", cache)
    assert found.origin == f"{web.url}/efficientdet-d7x.tar.gz"
    assert found.archive_sha256 == sha256(path)


def test_official_name_with_a_known_hash(mirror, cache, monkeypatch):
    path = pack(mirror.folder / "efficientdet-d0.tar.gz")
    with pytest.raises(InputError, match="expected 74794c937aa1"):
        resolve("efficientdet-d0", cache)
    assert not list(cache.rglob("*.tar.gz"))
    monkeypatch.setattr(sources, "ARCHIVE_SHA256", {"efficientdet-d0": sha256(path)})
    with pytest.raises(InputError, match="bytes, expected 28,828,936"):
        resolve("efficientdet-d0", cache)
    monkeypatch.setattr(sources, "ARCHIVE_BYTES", {"efficientdet-d0": path.stat().st_size})
    assert resolve("efficientdet-d0", cache).archive_sha256 == sha256(path)
    # A cached file that has decayed is not trusted.
    (cached,) = cache.rglob("*-efficientdet-d0.tar.gz")
    cached.write_bytes(b"decayed")
    assert resolve("efficientdet-d0", cache).archive_sha256 == sha256(path)


def test_official_name_that_is_missing_on_the_server(mirror, cache):
    with pytest.raises(InputError, match="efficientdet-d3.tar.gz does not exist .status 404"):
        resolve("efficientdet-d3", cache)


def test_a_local_folder_comes_before_an_official_name(tmp_path, cache, monkeypatch):
    fill(tmp_path / "efficientdet-d0", FILES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", "http://127.0.0.1:1")
    found = resolve("efficientdet-d0", cache)
    assert found.prefix == Path("efficientdet-d0/model")


@pytest.mark.parametrize("address", ["mirror", "ftp://host/folder", "/mnt/mirror", "https://"])
def test_a_mirror_that_is_no_address(cache, monkeypatch, address):
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", address)
    with pytest.raises(InputError, match="EFFICIENTDET_DOWNLOADS is .* expected the http or https"):
        resolve("efficientdet-d2", cache)


def test_a_cache_that_cannot_be_made(tmp_path, web):
    (tmp_path / "file").write_text("")
    path = pack(web.folder / "d0.tgz")
    for source in (str(path), f"{web.url}/d0.tgz"):
        with pytest.raises(InputError, match="set EFFICIENTDET_CACHE"):
            resolve(source, tmp_path / "file")


def test_default_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EFFICIENTDET_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == tmp_path / ".cache" / "efficientdet-parity"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache() == tmp_path / ".cache" / "efficientdet-parity"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "efficientdet-parity"
    monkeypatch.setenv("EFFICIENTDET_CACHE", "~/mine")
    assert default_cache() == tmp_path / "mine"


def test_default_cache_without_a_home(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("EFFICIENTDET_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InputError, match="set EFFICIENTDET_CACHE"):
        default_cache()


# Files that are none.


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(path))


@pytest.mark.parametrize("name", ["model.index", "model.data-00000-of-00001", "model.meta"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_socket])
@pytest.mark.parametrize("named", ["", "model", "model.index"])
def test_a_checkpoint_with_a_file_that_is_none(model, cache, monkeypatch, name, make, named):
    monkeypatch.chdir(model)
    (model / name).unlink()
    make(Path(name))
    with pytest.raises(
        InputError, match="it is a (named pipe|folder|socket)|neither a file nor|holds no check"
    ):
        resolve(str(model / named), cache)


@pytest.mark.parametrize("name", ["d0.tar.gz", "d0.tgz", "model.index", "checkpoint", "d0"])
@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
def test_a_source_that_is_no_file(tmp_path, cache, monkeypatch, name, make):
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    with pytest.raises(InputError, match="neither a file nor a folder"):
        resolve(name, cache)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        resolve("/dev/zero", cache)


def test_an_archive_in_the_cache_that_is_none_is_replaced(web, cache):
    path = pack(web.folder / "d0.tar.gz")
    url = f"{web.url}/d0.tar.gz"
    resolve(url, cache)
    (kept,) = cache.rglob("*-d0.tar.gz")
    kept.unlink()
    os.mkfifo(kept)
    assert resolve(url, cache).archive_sha256 == sha256(path)


def test_a_file_of_an_extracted_checkpoint_that_was_swapped_is_not_used(tmp_path, cache):
    path = pack(tmp_path / "d0.tgz")
    index = Path(f"{resolve(str(path), cache).prefix}.index")
    index.write_bytes(b"THE INDEX")
    found = resolve(str(path), cache)
    assert Path(f"{found.prefix}.index").read_bytes() == b"the index"
    assert found.archive_sha256 == sha256(path)


def test_an_archive_that_is_swapped_between_digest_and_extraction(tmp_path, cache, monkeypatch):
    path = pack(tmp_path / "d0.tgz")
    before, real = sha256(path), sources.file_sha256

    def swapped(file):
        found = real(file)
        pack(path, FILES | {"model.index": b"another"})
        return found

    monkeypatch.setattr(sources, "file_sha256", swapped)
    with pytest.raises(ArchiveError, match="changed while it was read"):
        resolve(str(path), cache)
    assert before != sha256(path) and not list(cache.rglob("*.index"))


# A digest that the user gives.


def test_the_digest_of_a_file(tmp_path, cache):
    path = pack(tmp_path / "d0.tgz")
    assert resolve(str(path), cache, sha256=sha256(path)).archive_sha256 == sha256(path)
    other = "0" * 64
    with pytest.raises(InputError, match=f"SHA-256 {sha256(path)}, expected {other}: it") as caught:
        resolve(str(path), tmp_path / "other", sha256=other)
    assert caught.value.cause is Cause.FORMAT
    assert not (tmp_path / "other").exists() and path.exists()


def test_the_digest_of_a_download(web, cache):
    path = pack(web.folder / "d0.tar.gz")
    url, other = f"{web.url}/d0.tar.gz", "0" * 64
    for _ in range(2):
        with pytest.raises(
            InputError, match=f"{sha256(path)}, expected {other}.* --sha256$"
        ) as told:
            resolve(url, cache, sha256=other)
        assert told.value.cause is Cause.FORMAT
        assert not [path for path in cache.rglob("*") if path.is_file()]
        # What was kept without being asked for a digest is not it either.
        resolve(url, cache)
        (kept,) = cache.rglob("*-d0.tar.gz")
        assert kept.exists()
        with pytest.raises(InputError, match="expected 000"):
            resolve(url, cache, sha256=other)
        assert not kept.exists()
        shutil.rmtree(cache)
    assert resolve(url, cache, sha256=sha256(path)).archive_sha256 == sha256(path)
    before = len(web.hits)
    assert resolve(url, cache, sha256=sha256(path)).archive_sha256 == sha256(path)
    assert len(web.hits) == before


def test_a_newer_file_is_fetched_where_its_digest_is_asked_for(web, cache):
    path = pack(web.folder / "d0.tar.gz")
    url = f"{web.url}/d0.tar.gz"
    before = resolve(url, cache).archive_sha256
    pack(path, FILES | {"model.index": b"newer"})
    assert resolve(url, cache).archive_sha256 == before
    assert resolve(url, cache, sha256=sha256(path)).archive_sha256 == sha256(path) != before


@pytest.mark.parametrize("name", ["", "model", "model.index", "checkpoint", "model.meta"])
def test_a_digest_is_of_no_use_for_a_folder(model, cache, name):
    with pytest.raises(
        InputError, match="is no archive or other single file, and --sha256 is of"
    ) as caught:
        resolve(str(model / name), cache, sha256="0" * 64)
    assert caught.value.cause is Cause.OPTION


def test_a_digest_that_is_not_the_known_one(mirror, cache):
    with pytest.raises(InputError, match="--sha256 is 000.* of efficientdet-d0 has 74794c937aa1"):
        resolve("efficientdet-d0", cache, sha256="0" * 64)
    assert not mirror.hits
    path = pack(mirror.folder / "efficientdet-d2.tar.gz")
    found = resolve("efficientdet-d2", cache, sha256=sha256(path))
    assert found.archive_sha256 == sha256(path) and found.official_model == "efficientdet-d2"


# Without a network.


@pytest.fixture(params=["option", "environment"])
def offline(request, monkeypatch):
    """What ``resolve`` is given, and how the obstacle is called."""
    if request.param == "option":
        return {"offline": True}, "--offline is given"
    monkeypatch.setenv("EFFICIENTDET_OFFLINE", "1")
    return {}, "EFFICIENTDET_OFFLINE is set"


def test_offline_what_is_there_is_used(mirror, cache, model, tmp_path, offline, monkeypatch):
    settings, obstacle = offline
    path = pack(mirror.folder / "efficientdet-d4.tar.gz")
    with pytest.raises(
        InputError, match=f"^{obstacle}, and http://127.* is not in the cache"
    ) as no:
        resolve("efficientdet-d4", cache, **settings)
    assert no.value.cause is Cause.NETWORK and not mirror.hits
    place = re.search("as '([^']*)'; .* put it there under that name", str(no.value))[1]
    # What it says to do is enough.
    shutil.copy(path, place)
    found = resolve("efficientdet-d4", cache, **settings)
    assert found.archive_sha256 == sha256(path) and not mirror.hits
    assert resolve(str(model), cache, **settings).prefix == model / "model"
    assert resolve(str(pack(tmp_path / "x.tgz")), cache, **settings).prefix.name == "model"
    # A file that cannot be had again is not removed because it is of no use.
    Path(place).write_bytes(b"no archive")
    with pytest.raises(ArchiveError):
        resolve("efficientdet-d4", cache, **settings)
    assert Path(place).exists() and not mirror.hits


def test_offline_another_digest_is_refused(mirror, cache):
    path = pack(mirror.folder / "x.tgz")
    url = f"{mirror.url}/x.tgz"
    resolve(url, cache)
    with pytest.raises(InputError, match=f"cache with SHA-256 {sha256(path)}, expected 000"):
        resolve(url, cache, sha256="0" * 64, offline=True)
    assert len(mirror.hits) == 1
    assert resolve(url, cache, sha256=sha256(path), offline=True).archive_sha256 == sha256(path)


@pytest.mark.parametrize("value", ["", "0", "no", "False", "OFF"])
def test_a_variable_that_forbids_nothing(mirror, cache, monkeypatch, value):
    monkeypatch.setenv("EFFICIENTDET_OFFLINE", value)
    pack(mirror.folder / "x.tgz")
    assert resolve(f"{mirror.url}/x.tgz", cache).prefix.name == "model"


# Names that a terminal would obey.


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\rwrote good.pth", "a\u202e", "a\x9b", "a\nb"])
def test_names_of_files_move_no_cursor(tmp_path, cache, name):
    folder = fill(tmp_path / "x", {f"{name}.index": b""})
    assert resolve(str(folder), cache).origin.isprintable()
    assert resolve(str(pack(folder / f"{name}.tgz")), cache).origin.isprintable()
    fill(folder, {"b.index": b"", "checkpoint": f'model_checkpoint_path: "{name}"'.encode()})
    fill(tmp_path / "y", {name: b""})
    for source in (folder, tmp_path / "y", tmp_path / "y" / name, tmp_path / name):
        with pytest.raises(InputError) as caught:
            (folder / f"{name}.index").unlink(missing_ok=True)
            fill(folder, {"c.index": b""})
            resolve(str(source), cache)
        assert str(caught.value).isprintable()
