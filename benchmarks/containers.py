"""Time and memory of reading and writing every kind of container, beside copying its bytes.

Every conversion is a process of its own, whose start is not counted. All take turns, so that all
see the same machine; files are in the page cache. Ratios are of medians within this run.

    python -m benchmarks.containers d7x
    python -m benchmarks.containers d7x --before ../earlier-checkout
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import common

_BLOCK = 1 << 20
_DISK, _READ, _WRITE, _BEFORE = "disk", "read", "write", "_before"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.containers", description=__doc__.splitlines()[0]
    )
    result.add_argument("model", nargs="?", default="d7x", help="default: d7x")
    result.add_argument("--repeats", type=int, default=3, help="default: 3")
    result.add_argument("--only", help="kinds, with commas between them; default: all")
    result.add_argument("--before", type=Path, help="an earlier checkout, measured beside this one")
    result.add_argument(
        "--checkpoint",
        type=Path,
        help="folder of a checkpoint of that model; default: a seeded one is made",
    )
    result.add_argument("--folder", type=Path, help="where to write; default: the temporary one")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return result


def child(tree: Path, *arguments: object) -> Any:
    """What a process of :mod:`benchmarks.one_container` prints."""
    program = Path(__file__).with_name("one_container.py")
    done = subprocess.run(
        [sys.executable, str(program), *map(str, arguments)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def only_read(files: list[str]) -> float:
    """Seconds to read files, keeping nothing."""
    buffer = bytearray(_BLOCK)
    began = time.perf_counter()
    for path in files:
        with open(path, "rb", buffering=0) as source:
            while source.readinto(buffer):
                pass
    return time.perf_counter() - began


def copied(files: list[str], folder: Path) -> float:
    """Seconds to read files and to write them again, until they are on the disk."""
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    began = time.perf_counter()
    for number, path in enumerate(files):
        with open(path, "rb", buffering=0) as source, open(folder / str(number), "wb", 0) as to:
            while count := source.readinto(buffer):
                to.write(view[:count])
            os.fsync(to.fileno())
    return time.perf_counter() - began


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make every container, then read and write each ``--repeats`` times, taking turns."""
    trees = {"": common.ROOT}
    if options.before is not None:
        trees[_BEFORE] = options.before.absolute()
    checkpoint = options.checkpoint or common.seed(options.model, folder / "checkpoint")
    checkpoint = checkpoint.absolute()
    print("making a container of every kind ...", file=sys.stderr)
    made = child(common.ROOT, "make", checkpoint, folder, options.model)
    wanted = options.only.split(",") if options.only else list(made)
    made = {kind: made[kind] for kind in wanted}
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for turn in range(options.repeats):
        for kind, (path, *files) in made.items():
            print(f"turn {turn + 1} of {options.repeats}: {kind} ...", file=sys.stderr)
            os.sync()
            disk = {"read": only_read(files), "copy": _cleaned(files, folder / "copy")}
            rows.setdefault((_DISK, kind), []).append(disk)
            for which, tree in trees.items():
                taken = child(tree, "read", path, options.model)
                rows.setdefault((_READ + which, kind), []).append(taken)
                if kind.startswith("saved_model") or kind == "frozen":
                    continue
                os.sync()
                with tempfile.TemporaryDirectory(dir=folder) as name:
                    target = Path(name) / "target"
                    taken = child(tree, "write", checkpoint, target, kind, options.model)
                rows.setdefault((_WRITE + which, kind), []).append(taken)
    sizes = {kind: sum(map(os.path.getsize, files)) for kind, (_, *files) in made.items()}
    return {
        "model": options.model,
        "repeats": options.repeats,
        "containers": {kind: _row(kind, sizes[kind], rows) for kind in made},
    }


def _cleaned(files: list[str], folder: Path) -> float:
    folder.mkdir()
    try:
        return copied(files, folder)
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _row(
    kind: str, size: int, rows: dict[tuple[str, str], list[dict[str, float]]]
) -> dict[str, Any]:
    """Everything measured of one kind: medians of times, and the largest memory."""
    disk = rows[_DISK, kind]
    result: dict[str, Any] = {
        "bytes": size,
        "only_read": common.summary([one["read"] for one in disk]),
        "copy": common.summary([one["copy"] for one in disk]),
    }
    for what in (_READ, _WRITE, _READ + _BEFORE, _WRITE + _BEFORE):
        if (what, kind) in rows:
            found = rows[what, kind]
            result[what] = {
                **common.summary([one["seconds"] for one in found]),
                "median_cpu_seconds": round(
                    statistics.median(one["cpu_seconds"] for one in found), 4
                ),
                "peak_bytes": int(max(one["peak_bytes"] for one in found)),
                "child_peak_bytes": int(max(one["child_peak_bytes"] for one in found)),
                "bytes": int(found[0].get("bytes", size)),
            }
    return result


def text(result: dict[str, Any]) -> str:
    """The result as two tables."""
    median = "median_seconds"
    kinds = result["containers"].values()
    measured = any(_READ + _BEFORE in row for row in kinds)
    before = ("before: s", "cpu s", "peak MB") if measured else ()
    reading = [
        (
            "reading",
            "MB",
            "only read s",
            "copy s",
            "convert s",
            "cpu s",
            "/ copy",
            "peak MB",
            *before,
        )
    ]
    writing = [("writing", "MB", "write s", "cpu s", "MB/s", "peak MB", *before)]
    for kind, row in result["containers"].items():
        read, earlier = row[_READ], row.get(_READ + _BEFORE)
        reading.append(
            (
                kind,
                f"{row['bytes'] / 1e6:.0f}",
                f"{row['only_read'][median]:.2f}",
                f"{row['copy'][median]:.2f}",
                f"{read[median]:.2f}",
                f"{read['median_cpu_seconds']:.2f}",
                f"{read[median] / row['copy'][median]:.1f}",
                f"{read['peak_bytes'] / 1e6:.0f}",
                *_earlier(earlier),
            )
        )
        if _WRITE in row:
            write = row[_WRITE]
            earlier = row.get(_WRITE + _BEFORE)
            writing.append(
                (
                    kind,
                    f"{write['bytes'] / 1e6:.0f}",
                    f"{write[median]:.2f}",
                    f"{write['median_cpu_seconds']:.2f}",
                    f"{write['bytes'] / 1e6 / write[median]:.0f}",
                    f"{write['peak_bytes'] / 1e6:.0f}",
                    *_earlier(earlier),
                )
            )
    heading = f"{result['model']}, medians of {result['repeats']}"
    return "\n\n".join([heading, common.table(reading), common.table(writing)])


def _earlier(row: dict[str, Any] | None) -> tuple[str, ...]:
    """The columns of an earlier checkout, where there is one."""
    if row is None:
        return ()
    return (
        f"{row['median_seconds']:.2f}",
        f"{row['median_cpu_seconds']:.2f}",
        f"{row['peak_bytes'] / 1e6:.0f}",
    )


def main() -> None:
    options = parser().parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="efficientdet-parity-") as name:
        result = measure(options, Path(name))
    print(text(result))
    common.write(options.json, "containers", result, None)


if __name__ == "__main__":
    main()
