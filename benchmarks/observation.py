"""What it costs to see a candidate's every operation, beside hooks on its modules.

This project's own model can be compared both ways. Each way is a process of its own, whose peak
memory counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common

HOOKS = "hooks"
OBSERVED = "operations"
PREPARED = "finding the nodes"
SEEN = "a run that is seen"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.observation", description=__doc__)
    result.add_argument(
        "models",
        metavar="MODEL@SIZE",
        nargs="*",
        default=["d0@512", "d2@256"],
        help="default: d0@512 d2@256",
    )
    result.add_argument("--repeats", type=int, default=3, help="of the short parts; default: 3")
    result.add_argument("--threads", type=int, default=1, help="default: 1")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    result.add_argument("--way", choices=(HOOKS, OBSERVED), help=argparse.SUPPRESS)
    result.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    return result


def repeated(call: Callable[[], object], repeats: int) -> float:
    """The median of the seconds that a call takes."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def paired(checkpoint: Path, size: int, way: str) -> Any:
    """A comparison of a model with itself, in PyTorch on both sides."""
    import numpy as np

    from converter.conversion import convert
    from converter.fetch.sources import default_cache, resolve
    from efficientdet_spec import iterate_nodes
    from parity.lockstep.pairing import Pairing
    from parity.sides.naming import own_paths
    from parity.sides.pytorch import FaithfulReferee, TorchCandidate
    from parity.sides.pytorch.observation.candidate import ObservedCandidate
    from parity.sides.pytorch.streaming import streaming
    from torch_model.checkpoint import from_arrays

    conversion = convert(resolve(str(checkpoint), default_cache()))
    nodes = list(iterate_nodes(conversion.config, (size, size)))
    kinds = {node.name: node.kind for node in nodes}
    outputs = [node.name for node in nodes if node.is_output]

    def hooked() -> TorchCandidate:
        arrays = {name: array.copy() for name, array in conversion.arrays.items()}
        return TorchCandidate(from_arrays(conversion.config, arrays, "seeded"), own_paths(kinds))

    compared, faithful = hooked(), hooked()
    reference = streaming(faithful, kinds, outputs, {})
    images = np.random.default_rng(0).standard_normal((1, size, size, 3)).astype("float32")
    candidate = compared if way == HOOKS else ObservedCandidate(compared.model, list(kinds))
    referee = FaithfulReferee(faithful.model, kinds, images.shape)
    return Pairing(reference, candidate, referee, images)


def measure(checkpoint: Path, size: int, way: str, repeats: int, threads: int) -> dict[str, Any]:
    """Seconds of each part of a comparison, and the process's peak memory behind some of them."""
    import torch

    from parity.lockstep.comparison import compare
    from parity.process import environment

    torch.set_num_threads(threads)
    pairing = paired(checkpoint, size, way)
    pairing.run_unobserved()
    seconds = {"a forward pass": repeated(pairing.run_unobserved, repeats)}
    peaks = {"a forward pass": environment.peak_memory_bytes()}
    started = time.perf_counter()
    pairing.candidate.prepare(pairing.reference, pairing.referee, pairing.images, pairing.mode)
    seconds[PREPARED] = time.perf_counter() - started
    peaks[PREPARED] = environment.peak_memory_bytes()
    seconds[SEEN] = repeated(lambda: pairing.run(lambda node, made: None), repeats)
    peaks[SEEN] = environment.peak_memory_bytes()
    found = compare(pairing)
    seconds |= {timing.name: timing.seconds for timing in found.timings}
    peaks["the whole"] = environment.peak_memory_bytes()
    passed = sum(node.verdict.passes for node in found.nodes)
    return {
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "peak_memory_bytes": peaks,
        "outcome": found.outcome.name,
        "nodes": [passed, len(found.nodes)],
    }


def text(results: list[dict[str, Any]]) -> str:
    """The results as a table, each time in forward passes too."""
    lines = [("model", "part", HOOKS, "", OBSERVED, "", f"{OBSERVED} / {HOOKS}")]
    for result in results:
        ways = [result["ways"][way] for way in (HOOKS, OBSERVED)]
        for part in ways[0]["seconds"]:
            cells = [result["model"], part]
            for way in ways:
                taken = way["seconds"][part]
                forward = way["seconds"]["a forward pass"]
                cells += [f"{taken:.3f} s", f"{taken / forward:.1f} passes"]
            one, two = (way["seconds"][part] for way in ways)
            lines.append((*cells, f"{two / one:.2f}" if one > 1e-3 else "-"))
        for part in ways[0]["peak_memory_bytes"]:
            one, two = (way["peak_memory_bytes"][part] / 1e9 for way in ways)
            cells = [f"peak memory, {part}", f"{one:.2f} GB", "", f"{two:.2f} GB", ""]
            lines.append((result["model"], *cells, f"{two / one:.2f}"))
    return common.table(lines)


def main() -> None:
    arguments = parser().parse_args()
    try:
        pairs = [
            (name, int(size)) for name, _, size in (m.partition("@") for m in arguments.models)
        ]
    except ValueError:
        parser().error(f"{' '.join(arguments.models)} has no sizes; give MODEL@SIZE, as d0@512")
    shared = (arguments.repeats, arguments.threads)
    if arguments.way:
        from parity.process import environment

        environment.prepare()
        ((_, size),) = pairs
        print(json.dumps(measure(arguments.checkpoint, size, arguments.way, *shared)))
        return
    results = []
    for model, size in pairs:
        ways = {}
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = common.seed(model, Path(folder))
            for way in (HOOKS, OBSERVED):
                print(f"measuring {model} at {size}x{size} by {way} ...", file=sys.stderr)
                command = [sys.executable, "-m", "benchmarks.observation", f"{model}@{size}"]
                command += ["--way", way, "--checkpoint", str(checkpoint)]
                command += ["--repeats", str(shared[0]), "--threads", str(shared[1])]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                ways[way] = json.loads(done.stdout)
        results.append({"model": f"{model}@{size}", "ways": ways})
    print(text(results))
    common.write(arguments.json, "observation", {"results": results}, arguments.threads)


if __name__ == "__main__":
    main()
