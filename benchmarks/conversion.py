"""Time and memory of a whole conversion, beside copies that reach the disk and a naive loop."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.launcher import launched

COPY = "cp, fsync"
READ_AND_COPY = "read all, cp, fsync"
CONVERT = "convert.py"
NAIVE = "naive loop"

_BLOCK = 1 << 20

_COPY = 'cp "$1" "$2" && sync "$2"'
_READ = 'cat "$3" > /dev/null'
"""For a shell, which takes a millisecond to start."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.conversion", description=__doc__)
    result.add_argument("--model", default="d7x", help="default: d7x")
    result.add_argument(
        "--checkpoint",
        type=Path,
        help="folder of a checkpoint of that model; default: a seeded one is made",
    )
    result.add_argument("--repeats", type=int, default=7, help="default: 7, after one warm-up")
    result.add_argument(
        "--folder", type=Path, help="where to write; default: the folder for temporary files"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return result


def run(command: Sequence[str]) -> tuple[float, int]:
    """Run a process to its end.

    Returns:
        Its wall time in seconds, and its largest resident memory in bytes.

    Raises:
        RuntimeError: It failed.
    """
    found = launched(command, common.ROOT)
    if found["status"]:
        raise RuntimeError(f"{' '.join(command)} failed: {found['said']}")
    return found["seconds"], found["peak_bytes"]


def bytes_used(checkpoint: Path, model: str) -> int:
    """Size of the values that a conversion uses and writes, as convert.py lists them."""
    command = [sys.executable, "convert.py", str(checkpoint), "--model", model, "--list"]
    output = subprocess.run(
        [*command, "--json"], cwd=common.ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    rows = json.loads(output)["ledger"]["variables"]
    return 4 * sum(math.prod(row["shape"]) for row in rows if row["use"] != "excluded")


def write_payload(checkpoint: Path, path: Path, size: int) -> None:
    """Write ``size`` bytes of the checkpoint's data, in blocks, as one file."""
    (data,) = checkpoint.glob("*.data-00000-of-00001")
    with open(data, "rb") as source, open(path, "wb") as target:
        while size:
            size -= target.write(source.read(min(_BLOCK, size)))


def measure(checkpoint: Path, model: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Run each process once as a warm-up and then ``repeats`` times, taking turns."""
    payload, target = folder / "payload", folder / "target.pth"
    size = bytes_used(checkpoint, model)
    write_payload(checkpoint, payload, size)
    (index,) = checkpoint.glob("*.index")
    (data,) = checkpoint.glob("*.data-00000-of-00001")
    python = sys.executable
    copied = ["sh", str(payload), str(target), str(data)]
    commands = {
        COPY: ["sh", "-c", _COPY, *copied],
        READ_AND_COPY: ["sh", "-c", f"{_READ} && {_COPY}", *copied],
        CONVERT: [python, "convert.py", str(checkpoint), str(target), "--model", model],
        NAIVE: [
            python,
            str(Path(__file__).with_name("naive_conversion.py")),
            str(index.with_suffix("")),
            str(target),
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, list[int]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            target.unlink(missing_ok=True)
            # What one process has written must not be on its way to the disk during the next.
            os.sync()
            taken, peak = run(command)
            if turn:
                seconds[name].append(taken)
                memory[name].append(peak)
    rows = {
        name: {**common.summary(seconds[name]), "peak_bytes": max(memory[name])}
        for name in commands
    }
    return {
        "model": model,
        "bytes_read": data.stat().st_size,
        "bytes_written": size,
        "repeats": repeats,
        "rows": rows,
        "ratios": {key: ratios(rows, f"{key}_seconds") for key in ("min", "median")},
    }


def ratios(rows: dict[str, dict[str, Any]], key: str) -> dict[str, float]:
    """What the times say, of one kind of statistic."""
    converted = rows[CONVERT][key]
    return {
        "convert_over_copy": round(converted / rows[COPY][key], 2),
        "convert_over_read_and_copy": round(converted / rows[READ_AND_COPY][key], 2),
        "naive_over_convert": round(rows[NAIVE][key] / converted, 2),
    }


def text(result: dict[str, Any]) -> str:
    """The result as a table."""
    lines = [("", "min s", "median s", "peak MB")]
    lines += [
        (
            name,
            f"{row['min_seconds']:.3f}",
            f"{row['median_seconds']:.3f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
        )
        for name, row in result["rows"].items()
    ]
    least, median = result["ratios"]["min"], result["ratios"]["median"]
    told = {
        "convert_over_copy": f"{CONVERT} / ({COPY})",
        "convert_over_read_and_copy": f"{CONVERT} / ({READ_AND_COPY})",
        "naive_over_convert": f"{NAIVE} / {CONVERT}",
    }
    return "\n".join(
        [
            f"{result['model']}, {result['bytes_read'] / 1e6:.0f} MB read and verified, "
            f"{result['bytes_written'] / 1e6:.0f} MB of values written, {result['repeats']} "
            f"repeats",
            common.table(lines),
            "",
            *(
                f"{what}: {least[name]:.2f} of minima, {median[name]:.2f} of medians"
                for name, what in told.items()
            ),
        ]
    )


def main() -> None:
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        checkpoint = arguments.checkpoint or common.seed(arguments.model, folder / "checkpoint")
        result = measure(checkpoint.resolve(), arguments.model, folder, arguments.repeats)
    print(text(result))
    common.write(arguments.json, "conversion", result, None)


if __name__ == "__main__":
    main()
