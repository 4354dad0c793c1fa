"""Every kind of file is read where no framework can be imported, not even where one is installed.

All files are converted by one process, since its start is slow.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import format_files
import made_graphs
import numpy as np
import pytest

from converter.formats import registry
from converter.formats.target import Values
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import open_bundle
from converter.tensorflow_files.bundle_writer import write_bundle
from efficientdet_spec import TINY, EfficientDetConfig

ROOT = Path(__file__).parents[3]
FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "google.protobuf", "torch", "onnx", "safetensors")

REFUSE = f"""
import sys


class Refusing:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {FRAMEWORKS!r}):
            raise ImportError(name + " was to be imported")
        return None


sys.meta_path.insert(0, Refusing())
"""
"""A ``sitecustomize``, which the processes that are started by such a process run too."""

IMPORT = """
import importlib
import sys

for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(error)
"""

CONVERT = """
import json
import sys
from pathlib import Path

from converter.conversion import convert
from converter.fetch.sources import resolve
from converter.fingerprints import of_arrays

found = {}
for name, (path, model) in json.loads(sys.argv[1]).items():
    done = convert(resolve(path, Path(sys.argv[2])), model=model)
    values = done.provenance
    assert values["model_fingerprint"] == of_arrays(done.config, done.arrays), name
    found[name] = [values["container"], done.config.name, values["model_fingerprint"]]
print(json.dumps(found))
"""


@pytest.fixture
def alone(tmp_path):
    """Runs a program in a process where the frameworks cannot be imported."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(REFUSE)

    def run(program, *arguments):
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "hook"), str(ROOT)))},
            capture_output=True,
            text=True,
        )

    return run


def converted(alone, files, folder):
    """Of each file, its container, its model and the fingerprint of its values."""
    done = alone(CONVERT, json.dumps(files), str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_frameworks_cannot_be_imported(alone):
    names = [*FRAMEWORKS, "tensorflow.python", "google.protobuf.message"]
    done = alone(IMPORT, *names, "numpy", "google_crc32c")
    # Of a part, what it is a part of is imported first.
    first = [*FRAMEWORKS, "tensorflow", "google.protobuf"]
    assert done.stdout.splitlines() == [f"{name} was to be imported" for name in first]


def test_what_needs_a_framework_fails(alone):
    done = alone("import torch_model.checkpoint")
    assert done.returncode == 1 and "torch was to be imported" in done.stderr


def test_processes_that_such_a_process_starts_are_without_frameworks_too(alone):
    done = alone("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import torch'])")
    assert "torch was to be imported" in done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tiny model in every kind of container, each with its path."""
    folder = tmp_path_factory.mktemp("made")
    generator = np.random.default_rng(3)
    arrays = {
        pair.parameter: generator.uniform(0.5, 1.5, pair.shape).astype(np.float32)
        for pair in iterate_pairs(TINY)
    }
    values = Values(TINY, arrays)
    files: dict[str, Path] = {}
    for kind in registry.formats().values():
        # zylo117 cannot build the tiny model; its keys are read as effdet's are.
        if kind.write is not None and kind.name != "zylo117":
            files[kind.name] = folder / f"{kind.name}{kind.ending or (*kind.suffixes, '')[0]}"
            kind.write(files[kind.name], values)
    for kind in ("tf1", "tf2"):
        files[f"saved_model_{kind}"] = saved_model(files[kind], folder / f"saved_model_{kind}")
    files["frozen"] = folder / "frozen.pb"
    files["frozen"].write_bytes(made_graphs.graph(TINY, official(TINY, arrays)))
    return files


def official(config: EfficientDetConfig, arrays):
    return {
        name: part
        for pair in iterate_pairs(config)
        for name, part in zip(
            pair.variables, pair.layout.to_tensorflow(arrays[pair.parameter]), strict=True
        )
    }


def saved_model(checkpoint, folder):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    for path in checkpoint.glob("model.*"):
        (folder / "variables" / f"variables{path.suffix}").write_bytes(path.read_bytes())
    return folder


def test_every_container_holds_the_same_model_without_a_framework(alone, made, tmp_path):
    files = {name: (str(path), "tiny") for name, path in made.items()}
    files["float16"] = (str(narrowed(made["tf1"], tmp_path / "float16")), "tiny")
    found = converted(alone, files, tmp_path)
    containers = {name: container for name, (container, _, _) in found.items()}
    assert containers.pop("effdet") == "pth"
    assert containers.pop("float16") == "tf1"
    assert all(container == name for name, container in containers.items())
    # Whatever can be opened is among them.
    assert set(containers) == {
        name for name, kind in registry.formats().items() if kind.open is not None
    }
    assert {model for _, model, _ in found.values()} == {"efficientdet-tiny"}
    assert found.pop("float16")[2] != found["tf1"][2]
    assert len({fingerprint for _, _, fingerprint in found.values()}) == 1


def narrowed(checkpoint, folder):
    """A checkpoint with a few values in half precision, whose checksums are not the model's."""
    opened = open_bundle(checkpoint / "model")
    folder.mkdir()
    tensors = {
        name: opened.read(name).astype(np.float16) if "/bias" in name else opened.read(name)
        for name in opened.index.entries
    }
    write_bundle(folder / "model", tensors)
    return folder


def test_the_official_files_are_read_without_a_framework(alone, test_data, tmp_path):
    files = {}
    for path in sorted((test_data / "formats").iterdir()):
        if path.is_dir() and path.name not in ("keys", "variables"):
            files[path.name] = (str(format_files.unpacked(test_data, path.name, tmp_path)), None)
        elif path.name.endswith((".h5.gz", ".pb.gz")):
            files[path.name] = (str(unpacked(path, tmp_path)), None)
    assert len(files) == 9
    found = converted(alone, files, tmp_path)
    for name, (_, model, _) in found.items():
        assert model == f"efficientdet-{name.partition('_')[0]}"
    assert {container for container, _, _ in found.values()} == {
        "tf2", "saved_model_tf2", "saved_model_tf1", "h5", "frozen"
    }  # fmt: skip
    # Each model's variables hold the same numbers in all of its files.
    for model in ("d0", "lite0"):
        same = {
            fingerprint
            for name, (_, _, fingerprint) in found.items()
            if name.startswith(model) and "ids" in name
        }
        assert len(same) == 1, model


def unpacked(path, folder):
    target = folder / path.stem
    target.write_bytes(gzip.decompress(path.read_bytes()))
    return target
