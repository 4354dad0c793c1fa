"""What the processes of :mod:`benchmarks.containers` do: make containers, read one, write one.

Each is a process of its own and prints one line of JSON; PYTHONPATH says which checkout it runs.

    python benchmarks/one_container.py make CHECKPOINT FOLDER MODEL
    python benchmarks/one_container.py read CONTAINER MODEL
    python benchmarks/one_container.py write CHECKPOINT TARGET FORMAT MODEL
"""

from __future__ import annotations

import contextlib
import gc
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from converter.conversion import convert, files_at, to_tensorflow
from converter.fetch.sources import resolve
from converter.formats.registry import formats
from converter.formats.target import Values
from efficientdet_spec import InputError
from parity.process.environment import peak_memory_bytes

_UNIT = 1 if sys.platform == "darwin" else 1024
_SAVED_MODEL = b"\x08\x01\x12\x00"
"""The beginning of a SavedModel's graph, here without anything in it: it is not looked at."""


def make(checkpoint: str, folder: str, model: str) -> dict[str, list[str]]:
    """Write the model of a checkpoint as a container of every kind that can be read.

    Returns:
        The path that names each, by the kind's name, and every file of it.
    """
    place = Path(folder)
    done = convert(resolve(checkpoint, place), model=model)
    values = Values(done.config, done.arrays, provenance=done.provenance)
    made = {"tf1": Path(checkpoint)}
    for kind in formats().values():
        if kind.write is not None and kind.name not in made:
            path = place / f"{kind.name}{kind.ending or next(iter(kind.suffixes), '')}"
            try:
                kind.write(path, values)
            except InputError as error:
                print(f"without {kind.name}: {error}", file=sys.stderr)
            else:
                made[kind.name] = path
    for kind in ("tf1", "tf2"):
        made[f"saved_model_{kind}"] = _saved_model(made[kind], place / f"saved_model_{kind}")
    made["frozen"] = _frozen(values, place / "frozen.pb")
    return {kind: [str(path), *map(str, files_at(path))] for kind, path in made.items()}


def _saved_model(bundle: Path, folder: Path) -> Path:
    """A SavedModel whose variables are those of a checkpoint."""
    (folder / "variables").mkdir(parents=True)
    for path in bundle.glob("model.*"):
        shutil.copyfile(path, folder / "variables" / f"variables{path.suffix}")
    (folder / "saved_model.pb").write_bytes(_SAVED_MODEL)
    return folder


def _frozen(values: Values, path: Path) -> Path:
    """A frozen graph: every constant, and every node that takes one."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import made_graphs

    with open(path, "wb") as stream:
        for node in made_graphs.nodes(
            values.config, dict(to_tensorflow(values.config, values.arrays))
        ):
            stream.write(node.written())
        stream.write(made_graphs.written(()))
    return path


def read(container: str, model: str) -> dict[str, float]:
    """Convert a container once."""
    files = resolve(container, Path(container).parent)
    formats()
    with _measured() as found:
        done = convert(files, model=model)
    assert not done.ledger.findings
    return found


def write(checkpoint: str, target: str, kind: str, model: str) -> dict[str, float]:
    """Write the model of a checkpoint as a container of one kind."""
    done = convert(resolve(checkpoint, Path(target).parent), model=model)
    values = Values(done.config, done.arrays, provenance=done.provenance)
    write_it = formats()[kind].write
    assert write_it is not None
    with _measured() as found:
        written = write_it(Path(target), values)
    found["bytes"] = sum(path.stat().st_size for path in written.files)
    return found


@contextlib.contextmanager
def _measured() -> Iterator[dict[str, float]]:
    """Wall and processor time, and the largest memory above that of before."""
    found: dict[str, float] = {}
    gc.collect()
    # Linux forgets the largest memory so far; elsewhere a smaller one than that is not seen.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before, memory = resource.getrusage(resource.RUSAGE_SELF), peak_memory_bytes()
    began = time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    found["cpu_seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found["peak_bytes"] = peak_memory_bytes() - memory
    # Keras' files are opened in a child process.
    found["child_peak_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _UNIT


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps({"make": make, "read": read, "write": write}[name](*arguments)))
