"""``convert.py`` from the command line: every form of source, and every way to get it wrong."""

import argparse
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tarfile
import threading
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import convert
import torch_model
from converter.variables import EMA
from efficientdet_spec import TINY, Cause, InputError, open_files
from torch_model.checkpoint import (
    ModelCheckpoint,
    from_arrays,
    load_checkpoint,
    save_checkpoint,
)
from torch_model.container_writing import TorchFileWriter, WritingThread
from torch_model.model_file import FORMAT, FORMAT_VERSION, RAW_VERSION

ROOT = Path(convert.__file__).resolve().parent
DATA = "model.data-00000-of-00001"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    return folder / "tiny.pth"


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A copy of the tiny checkpoint that may be damaged."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


@pytest.fixture
def run(cache, capsys):
    """Runs ``convert.py`` in this process; returns exit code, standard output and error."""

    def call(*arguments):
        capsys.readouterr()
        code = convert.main([*map(str, arguments), "--cache", str(cache)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def refused(run, tmp_path):
    """Runs ``convert.py``, which must refuse and leave nothing behind; returns its message."""

    def snapshot():
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        # Downloads and unpacked archives may stay for the next try.
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.suffix == ".tmp" or "cache" not in path.relative_to(tmp_path).parts
        }

    def call(*arguments):
        before = snapshot()
        code, out, err = run(*arguments)
        assert code == 2
        assert out == ""
        assert err.startswith("convert.py: error: ")
        assert err.endswith("\n") and err.count("\n") == 1, err
        assert "Traceback" not in err
        assert snapshot() == before
        return err

    return call


def pack(path, folder, inside="efficientdet-tiny"):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, inside)
    return path


def same_values(path, conversion):
    state = load_checkpoint(path).state_dict
    return state.keys() == conversion.arrays.keys() and all(
        np.array_equal(state[name].numpy(), array) for name, array in conversion.arrays.items()
    )


@pytest.mark.parametrize("form", ["", "model", "model.index", "checkpoint", DATA])
def test_local_sources(form, tiny_checkpoint, tiny_conversion, target, run, cache):
    code, out, err = run(tiny_checkpoint / form, target)
    assert (code, err) == (0, "")
    assert out.startswith("efficientdet-tiny, 7 classes\n")
    assert f"wrote {target}" in out
    assert same_values(target, tiny_conversion)
    content = load_checkpoint(target)
    assert content.config == TINY
    assert content.provenance == tiny_conversion.provenance
    assert not cache.exists()
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_archive(tiny_checkpoint, tiny_conversion, tmp_path, target, run):
    archive = pack(tmp_path / "efficientdet-tiny.tar.gz", tiny_checkpoint)
    code, _, err = run(archive, target)
    assert (code, err) == (0, "")
    assert same_values(target, tiny_conversion)
    provenance = load_checkpoint(target).provenance
    assert provenance["source"] == str(archive)
    assert provenance["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_address(tiny_checkpoint, tiny_conversion, tmp_path, target, run, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    web = tmp_path / "web"
    web.mkdir()
    pack(web / "tiny.tar.gz", tiny_checkpoint)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(web)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/tiny.tar.gz"
        code, _, err = run(url, target)
        assert code == 0
        assert "error" not in err
        assert asked == ["/tiny.tar.gz"]
        code, out, err = run(url.replace("tiny", "other"), target.with_name("other.pth"))
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith("convert.py: error: ")
        assert "404" in err
        assert not target.with_name("other.pth").exists()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert same_values(target, tiny_conversion)
    assert load_checkpoint(target).provenance["source"] == url


def test_list_needs_the_index_alone(tiny_checkpoint, tmp_path, run):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tiny_checkpoint / "model.index", alone)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(alone / "model.index", "--list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    names = {line.split()[0] for line in lines if line}
    assert {"global_step", "box_net/box-predict/bias", f"box_net/box-predict/bias/{EMA}"} < names
    assert lines[0] == "411 EMA values used (EMA preferred)"
    place = lines.index(f"  efficientnet-tiny/stem/conv2d/kernel/{EMA}")
    assert lines[place + 1].split()[:3] == ["3x3x3x8", "->", "backbone.stem_conv.weight"]
    assert sorted(tmp_path.rglob("*")) == before


def test_list_prints_findings_and_fails(rewrite, run):
    def change(tensors):
        tensors["another/variable"] = np.zeros(3, np.float32)
        del tensors["box_net/box-0/bias"], tensors[f"box_net/box-0/bias/{EMA}"]

    code, out, err = run(rewrite(change), "--list")
    assert code == 2
    assert "FINDING: another/variable [3] is no variable of efficientdet-tiny" in out
    assert "box_net/box-0/bias, which fills" in out
    assert err.startswith("convert.py: error: ") and err.count("\n") == 1
    assert "1 missing: box_net/box-0/bias; 1 unknown: another/variable [3]" in err
    assert "convert --list" in err


def test_raw_weights(tiny_checkpoint, tiny_conversion, target, run):
    assert run(tiny_checkpoint, target, "--weights", "raw")[0] == 0
    assert not same_values(target, tiny_conversion)
    assert load_checkpoint(target).provenance["weights"] == "raw"


@pytest.mark.parametrize("where", ["file", "output"])
def test_json(where, tiny_checkpoint, target, tmp_path, run):
    path = tmp_path / "result.json"
    options = ["--json", path] if where == "file" else ["--json"]
    code, out, err = run(tiny_checkpoint, target, *options)
    assert (code, err) == (0, "")
    values = json.loads(path.read_text() if where == "file" else out)
    assert path.exists() == (where == "file")
    assert (values["schema"], values["version"]) == ("efficientdet-parity/conversion", 1)
    assert values["target"] == str(target)
    assert values["model"] == "efficientdet-tiny"
    assert values["config"] == TINY.to_dict()
    assert values["provenance"] == load_checkpoint(target).provenance
    assert values["ledger"]["findings"] == []
    assert values["seconds"] > 0


def test_json_of_a_listing(tiny_checkpoint, run):
    code, out, err = run(tiny_checkpoint, "--list", "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert (values["schema"], values["version"]) == ("efficientdet-parity/conversion", 1)
    assert len(values["ledger"]["variables"]) == sum(values["ledger"]["counts"].values()) == 823


def test_json_that_cannot_be_written(tiny_checkpoint, tmp_path, run):
    (tmp_path / "file").write_text("no folder")
    for path in (tmp_path / "file" / "result.json", tmp_path, tmp_path / "no" / "result.json"):
        code, out, err = run(tiny_checkpoint, "--list", "--json", path)
        assert (code, out) == (2, "")
        assert err.startswith(f"convert.py: error: {path} ")
        assert "cannot be written" in err or "is a folder" in err
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny", "tiny.pth.gz", ".pth"])
def test_target_has_another_suffix(name, tiny_checkpoint, target, refused):
    message = refused(tiny_checkpoint, target.with_name(name))
    assert "does not say by its ending what it is to be; let it end in .h5" in message
    assert "or give --to with one of h5, pth, safetensors" in message


@pytest.mark.parametrize(
    ("name", "to", "told"),
    [
        ("tiny.h5", "pth", "ends like a Keras HDF5 file, but --to asks for a PyTorch file"),
        ("tiny.pth", "tf1", "ends like a PyTorch file"),
        ("tiny.safetensors", "effdet", "ends like a safetensors file, but --to asks for a state"),
        ("tiny.h5", "pth", "; let it end in .pth, or leave --to out"),
        ("tiny.pth", "tf2", "; name a folder without such an ending, or leave --to out"),
    ],
)
def test_target_and_to_contradict_each_other(name, to, told, tiny_checkpoint, target, refused):
    assert told in refused(tiny_checkpoint, target.with_name(name), "--to", to)


def test_averages_are_not_asked_for_and_left_out(tiny_checkpoint, target, refused):
    words = ["--to", "tf1", "--weights", "both", "--no-ema"]
    folder = target.with_name("tf1")
    assert "--no-ema leaves out the moving averages that --weights both asks for" in refused(
        tiny_checkpoint, folder, *words
    )
    assert not folder.exists()


@pytest.mark.parametrize("to", ["tf1", "tf2"])
@pytest.mark.parametrize("there", [False, True])
def test_a_checkpoint_that_cannot_be_written_leaves_no_folder(
    to, there, tiny_checkpoint, target, refused, monkeypatch
):
    def full(*_):
        raise InputError("no room", Cause.SPACE)

    folder = target.with_name("folder")
    if there:
        folder.mkdir()
    monkeypatch.setattr("converter.formats.tf1.write_bundle", full)
    assert "no room" in refused(tiny_checkpoint, folder, "--to", to)
    assert folder.exists() is there and (not there or not any(folder.iterdir()))


def test_an_archive_in_a_compressed_file(tiny_checkpoint, tmp_path, target, refused):
    packed = Path(shutil.make_archive(str(tmp_path / "inner"), "zip", tiny_checkpoint))
    twice = tmp_path / "inner.zip.gz"
    twice.write_bytes(gzip.compress(packed.read_bytes()))
    message = refused(twice, target)
    assert f"{twice} holds inner.zip, which is no file of a model" in message


def test_target_is_missing(tiny_checkpoint, refused):
    assert "TARGET is missing" in refused(tiny_checkpoint)


def test_target_is_a_folder(tiny_checkpoint, target, refused):
    target.mkdir()
    assert f"{target} is a folder" in refused(tiny_checkpoint, target)


def test_a_name_that_no_file_can_have(tiny_checkpoint, target, refused):
    path = target.with_name("x" * 300 + ".pth")
    assert f"{path} cannot be written (File name too long)" in refused(tiny_checkpoint, path)
    path = path.with_suffix(".json")
    assert "cannot be written (File name too long)" in refused(
        tiny_checkpoint, "--list", "--json", path
    )


def test_no_device_is_replaced_by_a_file(tiny_checkpoint, tmp_path, refused):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    message = refused(tiny_checkpoint, "--list", "--json", pipe)
    assert f"{pipe} is not a regular file; name another file" in message
    assert pipe.is_fifo()


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_target_lies_in_no_folder(parent, tiny_checkpoint, tmp_path, refused):
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / parent / "tiny.pth"
    assert f"{path} lies in a folder that does not exist" in refused(tiny_checkpoint, path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_folder_that_refuses_files(code, tiny_checkpoint, target, refused, monkeypatch):
    def refuse(path, mode, *rest):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(open_files, "open", refuse, raising=False)
    message = refused(tiny_checkpoint, target)
    assert f"{target} cannot be written ({os.strerror(code)})" in message


def test_name_that_is_too_long(tiny_checkpoint, target, refused):
    assert "cannot be written" in refused(tiny_checkpoint, target.with_name("x" * 251 + ".pth"))


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_no_room_for_the_whole_file(existing, tiny_checkpoint, target, refused):
    """The operating system itself cuts the file off in the middle of writing it."""
    if existing:
        target.write_bytes(b"an earlier model")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        message = refused(tiny_checkpoint, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{target} cannot be written" in message
    assert "nothing was left behind" in message
    assert target.exists() == existing


def test_a_full_disk(tiny_checkpoint, target, refused, monkeypatch):
    target.write_bytes(b"an earlier model")
    written = []

    def write_half(writer, batch):
        writer.stream.write(b"half a file")
        writer.stream.flush()
        written.extend(target.parent.glob(".*.tmp"))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(WritingThread, "write", write_half)
    assert "(No space left on device)" in refused(tiny_checkpoint, target)
    assert len(written) == 1
    assert target.read_bytes() == b"an earlier model"


def test_interruption_leaves_nothing(tiny_checkpoint, target, run, monkeypatch):
    def interrupt(writer, content):
        writer.add(np.zeros(2**20))
        raise KeyboardInterrupt

    monkeypatch.setattr(TorchFileWriter, "finish", interrupt)
    code, out, err = run(tiny_checkpoint, target)
    assert (code, out) == (130, "")
    assert err == "convert.py: interrupted; nothing half-written is left\n"
    assert list(target.parent.iterdir()) == []


def test_an_existing_target_is_replaced(tiny_checkpoint, tiny_conversion, target, run):
    target.write_bytes(b"an earlier model")
    assert run(tiny_checkpoint, target)[0] == 0
    assert same_values(target, tiny_conversion)


def test_truncated_data(copy, target, refused):
    size = (copy / DATA).stat().st_size
    os.truncate(copy / DATA, size - 1)
    message = refused(copy, target)
    assert f"{copy / DATA} is truncated: it has {size - 1} bytes" in message


def test_flipped_bit_in_the_data(copy, target, refused):
    from converter.tensorflow_files.bundle import read_index

    name = f"box_net/box-predict/bias/{EMA}"
    content = bytearray((copy / DATA).read_bytes())
    content[read_index(copy / "model.index").entries[name].offset + 2] ^= 1
    (copy / DATA).write_bytes(content)
    message = refused(copy, target)
    assert f"{copy / DATA} is damaged" in message
    assert repr(name) in message


def test_flipped_bit_in_the_index(copy, target, refused):
    content = bytearray((copy / "model.index").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.index").write_bytes(content)
    assert str(copy / "model.index") in refused(copy, target)


def test_truncated_index(copy, target, refused):
    os.truncate(copy / "model.index", 1000)
    assert str(copy / "model.index") in refused(copy, target)


def test_missing_data_file(copy, target, refused):
    (copy / DATA).unlink()
    assert f"{copy / DATA} is missing" in refused(copy, target)


def test_missing_source(tmp_path, target, refused):
    assert "does not exist" in refused(tmp_path / "nothing", target)


def spoil(tensors):
    tensors[f"box_net/box-predict/bias/{EMA}"][:2] = np.nan
    tensors["box_net/box-predict/bias"][:3] = np.inf


def test_nan_weights_are_refused(rewrite, target, refused):
    message = refused(rewrite(spoil), target)
    assert f"'box_net/box-predict/bias/{EMA}' holds NaN in 2 of 36 values; the training" in message


def test_nan_in_values_that_are_not_used_is_a_note(rewrite, target, run):
    def change(tensors):
        tensors["box_net/box-predict/bias"][:3] = np.inf

    folder = rewrite(change)
    note = "'box_net/box-predict/bias' holds infinite values in 3 of 36 values."
    code, out, err = run(folder, target)
    assert (code, err) == (0, "")
    assert f"note: Of the values that are not used, {note}" in " ".join(out.split())
    assert note in load_checkpoint(target).provenance["notes"][0]
    code, out, err = run(folder, "--list")
    assert (code, err) == (0, "")
    assert note in " ".join(out.split())


def test_a_file_with_nan_is_listed_all_the_same(rewrite, run):
    code, out, err = run(rewrite(spoil), "--list")
    assert code == 2
    assert len(out.splitlines()) > 823 and f"\n  box_net/box-predict/bias/{EMA}\n" in out
    assert "FINDING: " in out and "holds NaN in 2 of 36 values" in " ".join(out.split())
    assert "verified" not in out
    assert err.startswith("convert.py: error: ") and err.count("\n") == 1


def test_a_listing_verifies_what_is_there_and_claims_no_more(copy, run):
    code, out, _ = run(copy, "--list")
    assert code == 0 and out.endswith("  all values read, every CRC32C verified\n")
    assert json.loads(run(copy, "--list", "--json")[1])["verified"] is True
    content = bytearray((copy / DATA).read_bytes())
    content[-1] ^= 1
    (copy / DATA).write_bytes(content)
    code, out, err = run(copy, "--list")
    assert code == 2 and f"{copy / DATA} is damaged" in err and "verified" not in out
    (copy / DATA).unlink()
    code, out, _ = run(copy, "--list")
    assert code == 0
    assert out.endswith("the index alone is there: no value was read, so no CRC32C verified\n")
    assert json.loads(run(copy, "--list", "--json")[1])["verified"] is False


def test_list_names_what_is_in_a_file_of_no_known_model(rewrite, run):
    def change(tensors):
        for name in list(tensors):
            tensors[f"other/{name}" if "tiny" in name else f"o/{name}"] = tensors.pop(name)

    folder = rewrite(change)
    code, out, err = run(folder, "--list", "--filter", "*box-0/bias*")
    assert code == 2 and "823 excluded" not in out and "not accounted for" in out
    assert "o/box_net/box-0/bias" in out and "2 of 823 variables fit" in out
    assert err.startswith("convert.py: error: ") and err.count("\n") == 1


def test_a_prefix_before_all_names(rewrite, run, target, tiny_pth):
    def change(tensors):
        for name in list(tensors):
            tensors[f"model/{name}"] = tensors.pop(name)

    folder = rewrite(change)
    for options in ((), ("--backbone",), ("--backbone", "efficientnet-tiny")):
        code, _, err = run(folder, target, *options)
        assert code == 2 and "give --strip-prefix model/ to have them read" in err
        assert "has 'model/' before 823 of its 823 names" in err
    code, out, _ = run(folder, "--list", "--strip-prefix", "model/")
    assert code == 0 and "note: 823 of 823 names were read without 'model/'" in out
    assert "model/box_net/box-0/bias/ExponentialMovingAverage" in out
    assert run(folder, target, "--strip-prefix", "model/")[0] == 0
    made, known = load_checkpoint(target), load_checkpoint(tiny_pth)
    assert made.provenance["stripped_prefix"] == "model/"
    assert all(
        torch.equal(made.state_dict[name], known.state_dict[name]) for name in known.state_dict
    )


def test_findings_are_one_error(rewrite, target, refused):
    def change(tensors):
        name = f"box_net/box-predict/bias/{EMA}"
        tensors[name] = tensors[name].astype(np.int32)
        tensors["another/variable"] = np.zeros(3, np.float32)

    message = refused(rewrite(change), target)
    assert "1 unknown: another/variable [3]" in message and "DT_INT32, which is no" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "d0"], "holds the variables of efficientdet-tiny, not of efficientdet-d0"),
        (["--model", "d99"], "There is no model 'd99'"),
        (["--num-classes", "90"], "has 7 classes"),
        (["--num-classes", "0"], "has 7 classes"),
    ],
)
def test_wrong_model(options, message, tiny_checkpoint, target, refused):
    assert message in refused(tiny_checkpoint, target, *options)


def test_right_model_and_classes(tiny_checkpoint, target, run):
    assert run(tiny_checkpoint, target, "--model", "tiny", "--num-classes", "7")[0] == 0
    assert target.exists()


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b garbage", b"garbage" * 100])
def test_unreadable_archive(content, tmp_path, target, refused):
    archive = tmp_path / "tiny.tar.gz"
    archive.write_bytes(content)
    assert str(archive) in refused(archive, target)


def test_truncated_archive(tiny_checkpoint, tmp_path, target, refused):
    archive = pack(tmp_path / "tiny.tar.gz", tiny_checkpoint)
    os.truncate(archive, archive.stat().st_size // 2)
    assert str(archive) in refused(archive, target)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/../../escaped", "a/../../../escaped"])
def test_archive_that_leads_out(name, tiny_checkpoint, tmp_path, target, refused):
    archive = pack(tmp_path / "plain.tar.gz", tiny_checkpoint)
    hostile = tmp_path / "hostile.tar.gz"
    with tarfile.open(archive) as source, tarfile.open(hostile, "w:gz") as result:
        for member in source:
            result.addfile(member, source.extractfile(member) if member.isfile() else None)
        added = tarfile.TarInfo(name)
        added.size = 3
        result.addfile(added, io.BytesIO(b"out"))
    refused(hostile, target)
    assert list(tmp_path.rglob("*escaped*")) == []
    assert not (tmp_path.parent / "escaped").exists()


def test_options_that_do_not_exist(capsys):
    assert convert.main(["source", "--wieghts", "raw"]) == 2
    line = "convert.py: error: convert has no option --wieghts (did you mean --weights?); "
    assert capsys.readouterr().err.startswith(line)


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
try:
    import tensorflow
except ImportError:
    pass
else:
    sys.exit("the blocker does not work")
import convert
code = convert.main(sys.argv[1:])
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
sys.exit(code)
"""


def run_process(*command):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_program_runs_by_itself(tiny_checkpoint, tiny_conversion, target):
    done = run_process("convert.py", tiny_checkpoint, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"wrote {target}" in done.stdout
    assert same_values(target, tiny_conversion)
    done = run_process("convert.py", tiny_checkpoint, target.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("convert.py: error: ") and done.stderr.count("\n") == 1


def test_converts_without_tensorflow(tiny_checkpoint, tiny_conversion, target):
    done = run_process("-c", BLOCKED, tiny_checkpoint, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert same_values(target, tiny_conversion)


def test_file_is_plain_and_loads_strictly(tiny_pth, tiny_conversion):
    content = torch.load(tiny_pth, weights_only=True)
    assert content["format"] == FORMAT
    assert content["version"] == FORMAT_VERSION
    assert content["model"] == "efficientdet-tiny"
    assert content["config"] == TINY.to_dict()
    assert json.loads(json.dumps(content["provenance"])) == tiny_conversion.provenance
    model = torch_model.load(tiny_pth)
    assert model.config == TINY
    assert not any(module.training for module in model.modules())
    direct = from_arrays(TINY, tiny_conversion.arrays, source="the conversion")
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 128, 128))).float()
    with torch.inference_mode():
        loaded, expected = model(images), direct(images)
        changed = direct(images + 1)
    flat = [[tensor for side in result for tensor in side] for result in (loaded, expected)]
    assert len(flat[0]) == 10
    assert all(torch.equal(left, right) for left, right in zip(*flat, strict=True))
    # The outputs depend on the input, so that their equality says something.
    assert not torch.equal(expected[0][0], changed[0][0])


class Executed:
    """Pickles as a call of ``os.system`` that leaves a file behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def write_plain_pickle(path, trace, good):
    path.write_bytes(pickle.dumps({**good, "provenance": Executed(trace)}))


def write_torch_pickle(path, trace, good):
    torch.save({**good, "provenance": Executed(trace)}, path)


def write_legacy_pickle(path, trace, good):
    torch.save({**good, "provenance": Executed(trace)}, path, _use_new_zipfile_serialization=False)


def write_random(path, trace, good):
    path.write_bytes(np.random.default_rng(0).bytes(100_000))


def write_nothing(path, trace, good):
    path.write_bytes(b"")


def write_zip(path, trace, good):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def write_packed_folder(path, trace, good):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/model.index", "index" * 99)


def write_compressed(path, trace, good):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", "data" * 99)


def write_state_dict(path, trace, good):
    torch.save(good["state_dict"], path)


def write_tensor(path, trace, good):
    torch.save(torch.zeros(3), path)


def write_other_version(path, trace, good):
    torch.save({**good, "version": RAW_VERSION + 1}, path)


def write_tensor_version(path, trace, good):
    torch.save({**good, "version": torch.zeros(3)}, path)


def write_without_config(path, trace, good):
    torch.save({name: value for name, value in good.items() if name != "config"}, path)


def write_odd_config(path, trace, good):
    torch.save({**good, "config": {**good["config"], "surprise": 1}}, path)


def write_list_of_tensors(path, trace, good):
    torch.save({**good, "state_dict": list(good["state_dict"].values())}, path)


def write_module(path, trace, good):
    torch.save(torch.nn.Conv2d(3, 3, 1), path)


def write_training_checkpoint(path, trace, good):
    torch.save({"state_dict": good["state_dict"], "args": argparse.Namespace(lr=1)}, path)


def write_torchscript(path, trace, good):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.ReLU()).save(str(path))


HOSTILE = {
    write_module: "of plain tensors but holds a pickled torch.nn.modules.conv.Conv2d, and loading",
    write_training_checkpoint: "is a training checkpoint (args, state_dict), not a PyTorch file of",
    write_torchscript: "of plain tensors but holds a TorchScript program, and loading it would",
    write_plain_pickle: "is not a PyTorch file of plain tensors",
    write_torch_pickle: "PyTorch file of plain tensors",
    write_legacy_pickle: "is not a PyTorch file of plain tensors",
    write_random: "is not a PyTorch file of plain tensors",
    write_nothing: "is not a PyTorch file of plain tensors",
    write_zip: "looks like a ZIP archive of other files, such as hello.txt; unpack it",
    write_packed_folder: "a ZIP archive of other files, such as folder/model.index; unpack it",
    write_compressed: "is a damaged PyTorch file",
    write_state_dict: "not one that convert.py wrote",
    write_tensor: "not one that convert.py wrote",
    write_other_version: f"has format version {RAW_VERSION + 1}, but this program reads up to",
    write_tensor_version: "has format version tensor",
    write_without_config: "garbles a part of it ('config')",
    write_odd_config: "surprise",
    write_list_of_tensors: "state_dict is no mapping",
}


@pytest.mark.parametrize("write", HOSTILE, ids=lambda write: write.__name__)
def test_hostile_files_are_refused(write, tiny_pth, tmp_path):
    path, trace = tmp_path / "hostile.pth", tmp_path / "executed"
    write(path, trace, torch.load(tiny_pth, weights_only=True))
    with pytest.raises(InputError) as error:
        torch_model.load(path)
    assert str(path) in str(error.value) or write is write_odd_config
    assert HOSTILE[write] in str(error.value)
    assert "\n" not in str(error.value)
    assert not trace.exists()


def test_the_hostile_pickle_works_where_it_is_trusted(tiny_pth, tmp_path):
    path, trace = tmp_path / "hostile.pth", tmp_path / "executed"
    write_torch_pickle(path, trace, torch.load(tiny_pth, weights_only=True))
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_damaged_bytes_never_lead_to_another_error(tiny_pth, tmp_path):
    """The names and shapes lie in the first kilobytes, the table of contents at the end."""
    good = tiny_pth.read_bytes()
    path = tmp_path / "damaged.pth"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        content = bytearray(good)
        for _ in range(3):
            content[int(rng.integers(6000))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            torch_model.load(path)
        except InputError:
            refused += 1
    assert refused > 30
    for size in (1, 4, 100, len(good) // 2, len(good) - 30, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(InputError):
            torch_model.load(path)


def drop(state):
    del state["backbone.stem_bn.running_var"]
    return "backbone.stem_bn.running_var is missing"


def add(state):
    state["one.more"] = torch.zeros(3)
    return "one.more is unknown"


def add_counter(state):
    state["one.more.num_batches_tracked"] = torch.tensor(3)
    return "one.more.num_batches_tracked is unknown"


def reshape(state):
    state["box_head.predict.pointwise.bias"] = torch.zeros(35)
    return "box_head.predict.pointwise.bias is float32 [35], not float32 [36]"


@pytest.mark.parametrize("change", [drop, add, add_counter, reshape])
def test_tensors_of_another_model_are_refused(change, tiny_pth, tmp_path):
    good = load_checkpoint(tiny_pth)
    state = dict(good.state_dict)
    message = change(state)
    path = tmp_path / "changed.pth"
    save_checkpoint(path, ModelCheckpoint(good.config, state, good.provenance))
    with pytest.raises(InputError) as error:
        torch_model.load(path)
    assert str(error.value).startswith(f"{path} does not fit efficientdet-tiny: {message}. Give ")


def test_findings_of_a_file_come_together(tiny_pth, tmp_path):
    good = load_checkpoint(tiny_pth)
    state = dict(good.state_dict)
    for change in (drop, add, reshape):
        change(state)
    path = tmp_path / "changed.pth"
    save_checkpoint(path, ModelCheckpoint(good.config, state, good.provenance))
    with pytest.raises(InputError) as error:
        torch_model.load(path)
    assert (
        "1 missing: backbone.stem_bn.running_var; 1 unknown: one.more; 1 of another kind: "
        "box_head.predict.pointwise.bias float32 [35], not float32 [36]." in str(error.value)
    )


def test_missing_model_file(tmp_path):
    for path in (tmp_path, tmp_path / "missing.pth"):
        with pytest.raises(InputError, match="is not a file"):
            torch_model.load(path)


def test_nothing_that_is_in_use_is_overwritten(tiny_checkpoint, rewrite, target, run):
    folder = rewrite(lambda tensors: None)
    index = folder / "model.index"
    before = index.read_bytes()
    for arguments in (
        (folder, target, "--json", target),
        (folder, target, "--json", index),
        (folder, "--list", "--json", folder / "model.data-00000-of-00001"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert "is in use by this very run" in err
    assert index.read_bytes() == before
    assert not target.exists()


def test_a_reader_that_goes_away_is_no_error(tiny_checkpoint):
    command = f"{sys.executable} convert.py {tiny_checkpoint} --list | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("411 EMA values used")
    assert done.stderr == ""


def test_an_empty_target_is_a_missing_one(tiny_checkpoint, run):
    code, _, err = run(tiny_checkpoint, "")
    assert code == 2
    assert "TARGET is ''; give a path" in err


def test_a_listing_is_filtered(tiny_checkpoint, run):
    code, out, err = run(tiny_checkpoint, "--list", "--filter", "*box-predict*")
    assert (code, err) == (0, "")
    assert "6 of 823 variables fit '*box-predict*'." in out
    assert max(map(len, out.splitlines())) <= 100
    code, _, err = run(tiny_checkpoint, "x.pth", "--filter", "*")
    assert code == 2 and "--filter chooses rows of --list" in err
