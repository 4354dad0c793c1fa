"""Every way to name a checkpoint, and every way to get it wrong."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest

from converter.fetch import sources
from converter.fetch.archive import ArchiveError
from converter.fetch.sources import CheckpointFiles, default_cache, resolve
from efficientdet_spec import InputError

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
    with pytest.raises(InputError, match="'m-09' and 2 more. and no 'checkpoint' file says which"):
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
        ("d0.h5", b"", "Keras"),
        ("d0.bin", b"\x89HDF\r\n\x1a\n more", "HDF5"),
        ("d0.pth", b"PK\3\4", "PyTorch"),
        ("d0.safetensors", b"", "PyTorch"),
        ("d0.pb", b"", "frozen graph"),
        ("d0.tflite", b"", "Lite"),
        ("d0.dat", b"\x1c\0\0\0TFL3", "Lite"),
        ("d0.onnx", b"", "ONNX"),
    ],
)
def test_other_formats(tmp_path, cache, name, content, kind):
    folder = fill(tmp_path / "x", {name: content})
    with pytest.raises(InputError, match=f"looks like .*{kind}.*; pass the TF1 training"):
        resolve(str(folder / name), cache)


def test_saved_model(tmp_path, cache):
    folder = fill(tmp_path / "x", {"saved_model.pb": b"", "variables/variables.index": b""})
    with pytest.raises(InputError, match="looks like a SavedModel"):
        resolve(str(folder), cache)


def test_unknown_file(tmp_path, cache):
    folder = fill(tmp_path / "x", {"notes.txt": b"hello"})
    with pytest.raises(InputError, match="unknown kind; pass a checkpoint folder"):
        resolve(str(folder / "notes.txt"), cache)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "nothing",
        "efficientdet-d8",
        "efficientdet-lite0",
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
