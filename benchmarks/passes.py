"""What a comparison of nodes costs, in forward passes of both frameworks."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.sides import opened
from benchmarks.turns import interleaved
from parity.process import environment
from parity.sides.tensorflow_import import import_tensorflow

TORCH = "torch_model"
TENSORFLOW = "reference_tf"

CONTRIBUTIONS = 5
"""As ``compare.py nodes`` takes them by default."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.passes", description=__doc__)
    result.add_argument("models", metavar="MODEL", nargs="*", default=["d0"], help="default: d0")
    result.add_argument("--repeats", type=int, default=2, help="default: 2, after one warm-up")
    result.add_argument("--threads", type=int, default=2, help="on both sides; default: 2")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return result


def measure(
    model: str, repeats: int, threads: int, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Times of both forward passes and of every pass of a comparison, at the native size."""
    import torch

    from parity.lockstep.comparison import compare
    from parity.lockstep.contributions import Observed, contributions
    from parity.lockstep.pairing import Pairing
    from parity.results.ranking import sources
    from parity.sides.naming import own_paths
    from parity.sides.pytorch import FaithfulReferee, TorchCandidate
    from parity.sides.tensorflow_graph import TensorflowReference

    torch.set_num_threads(threads)
    tapped: list[TensorflowReference] = []
    sides = opened(
        model,
        threads,
        [lambda built: None, lambda built: tapped.append(TensorflowReference(built))],
        checkpoint,
    )
    images, plain = sides.images, sides.graphs[0]
    reference = tapped[0].reference(sides.sessions[1], {})
    candidate = TorchCandidate(sides.model, own_paths(reference.kinds))
    referee = FaithfulReferee(sides.model, reference.kinds, images.shape)
    pairing = Pairing(reference, candidate, referee, images)
    outputs = [*plain.class_outputs, *plain.box_outputs]
    calls = {
        TENSORFLOW: lambda: sides.sessions[0].run(outputs, {plain.images: images}),
        TORCH: lambda: pairing.run_unobserved(),
    }
    seconds: dict[str, list[float]] = {}
    for turn in range(-1, repeats):
        found = {name: values[0] for name, values in interleaved(calls, 1, warm_ups=0).items()}
        comparison = compare(pairing, keep=CONTRIBUTIONS)
        found |= {timing.name: timing.seconds for timing in comparison.timings}
        started = time.perf_counter()
        nodes = [node.name for node in sources(comparison.nodes, CONTRIBUTIONS)]
        made = [node.name for node in comparison.nodes if node.shape is not None]
        contributions(pairing, nodes, None, Observed(made, comparison.outputs, comparison.own))
        found["contributions"] = time.perf_counter() - started
        if turn >= 0:
            for name, value in found.items():
                seconds.setdefault(name, []).append(value)
    forward = statistics.median(map(sum, zip(seconds[TENSORFLOW], seconds[TORCH], strict=True)))
    rows = {name: common.summary(values) for name, values in seconds.items()}
    for row in rows.values():
        row["of_both_forward_passes"] = round(row["median_seconds"] / forward, 2)
    return {
        "model": sides.config.name,
        "size": list(sides.config.image_size),
        "rows": rows,
        "forward_passes": [TENSORFLOW, TORCH],
        "failing_nodes": [node.name for node in comparison.nodes if node.verdict.fails],
        "peak_memory_bytes": environment.peak_memory_bytes(),
    }


def main() -> None:
    arguments = parser().parse_args()
    environment.prepare()
    import_tensorflow()
    results = [measure(model, arguments.repeats, arguments.threads) for model in arguments.models]
    for result in results:
        print(f"{result['model']}, {result['size'][0]}x{result['size'][1]}")
        rows = [["", "seconds (median)", "of both forward passes"]]
        rows += [
            [name, f"{row['median_seconds']:.2f}", f"{row['of_both_forward_passes']:.2f}"]
            for name, row in result["rows"].items()
        ]
        print(common.table(rows))
        print(f"peak memory {result['peak_memory_bytes'] / 1e9:.2f} GB\n")
    common.write(arguments.json, "passes", {"results": results}, arguments.threads)


if __name__ == "__main__":
    main()
