"""Forward time of the PyTorch model, beside the TensorFlow reference graph."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from converter.conversion import convert
from converter.fetch.sources import default_cache, resolve
from efficientdet_spec import EfficientDetConfig
from parity.sides.tensorflow_import import import_tensorflow

TORCH = "torch_model"
TENSORFLOW = "reference_tf"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.forward", description=__doc__)
    result.add_argument(
        "models", metavar="MODEL", nargs="*", default=["d0", "d4"], help="default: d0 d4"
    )
    result.add_argument("--repeats", type=int, default=10, help="default: 10, after two warm-ups")
    result.add_argument("--threads", type=int, default=2, help="on both sides; default: 2")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return result


def interleaved(
    calls: dict[str, Callable[[], object]], repeats: int, warm_ups: int = 2
) -> dict[str, list[float]]:
    """Seconds of each call, the calls taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-warm_ups, repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken = time.perf_counter() - started
            if turn >= 0:
                seconds[name].append(taken)
    return seconds


@dataclass(frozen=True)
class Opened:
    """Both sides with the same seeded weights.

    Attributes:
        config: The model.
        model: The PyTorch model.
        graphs: TensorFlow graphs.
        sessions: One for each, with every variable filled.
        images: [1, H, W, 3] at the model's native size.
    """

    config: EfficientDetConfig
    model: Any
    graphs: list[Any]
    sessions: list[Any]
    images: Any


def opened(model: str, threads: int, change: Sequence[Callable[[Any], object]]) -> Opened:
    """Open both sides of a model.

    Args:
        model: Its name.
        threads: Threads within one of TensorFlow's operations.
        change: For each graph that is wanted, what to do with it before its session is opened.
    """
    import reference_tf
    from parity.detections.images import photograph_like
    from torch_model.checkpoint import from_arrays
    from torch_model.preprocess import preprocess

    graphs, sessions = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = common.seed(model, Path(name))
        files = resolve(str(folder), default_cache(), lambda done, total: None)
        conversion = convert(files, model=model)
        config = conversion.config
        candidate = from_arrays(config, conversion.arrays, source=str(files.prefix))
        for prepare in change:
            built = reference_tf.build(config, *config.image_size)
            prepare(built)
            session = reference_tf.open_session(built.graph, threads)
            built.restore(session, files.prefix, ema=True)
            graphs.append(built)
            sessions.append(session)
    size = config.image_size
    images = preprocess(photograph_like(*size), *size)[None].astype("float32")
    return Opened(config, candidate, graphs, sessions, images)


def measure(model: str, repeats: int, threads: int) -> dict[str, Any]:
    """Both sides' forward times at the model's native size, batch 1, float32."""
    import torch

    sides = opened(model, threads, [lambda built: None])
    (built,), (session,) = sides.graphs, sides.sessions
    candidate, images = sides.model, sides.images
    nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    # A compiled call with its feed and fetches resolved once, as a server would use it.
    fetch = session.make_callable(
        [*built.class_outputs, *built.box_outputs], feed_list=[built.images]
    )
    with session, torch.inference_mode():
        calls = {TORCH: lambda: candidate(nchw), TENSORFLOW: lambda: fetch(images)}
        seconds = interleaved(calls, repeats)
    rows = {side: common.summary(values) for side, values in seconds.items()}
    return {
        "model": sides.config.name,
        "size": list(sides.config.image_size),
        "rows": rows,
        "ratios": {
            key: round(rows[TORCH][f"{key}_seconds"] / rows[TENSORFLOW][f"{key}_seconds"], 3)
            for key in ("min", "median")
        },
    }


def text(results: list[dict[str, Any]]) -> str:
    """The results as a table."""
    lines = [("", "size", "min s", "median s", "torch/TF (min)", "torch/TF (median)")]
    for result in results:
        size = "x".join(map(str, result["size"]))
        for side, row in result["rows"].items():
            shown = [f"{result['ratios'][key]:.2f}" for key in ("min", "median")]
            lines.append(
                (
                    f"{result['model']} {side}",
                    size,
                    f"{row['min_seconds']:.3f}",
                    f"{row['median_seconds']:.3f}",
                    *(shown if side == TORCH else ["", ""]),
                )
            )
    return common.table(lines)


def main() -> None:
    arguments = parser().parse_args()
    import_tensorflow()
    import torch

    torch.set_num_threads(arguments.threads)
    results = []
    for model in arguments.models:
        print(f"measuring {model} ...", file=sys.stderr)
        results.append(measure(model, arguments.repeats, arguments.threads))
    print(text(results))
    values = {"models": results, "repeats": arguments.repeats}
    common.write(arguments.json, "forward", values, arguments.threads)


if __name__ == "__main__":
    main()
