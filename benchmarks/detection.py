"""Time from an image file to detections: both sides of this project, and TensorFlow in one run."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from converter.conversion import convert
from converter.fetch.sources import default_cache, resolve
from efficientdet_spec.prefetch import ahead
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.detectors import detecting
from parity.detections.shards import BATCHES_AHEAD, Side
from parity.process import environment
from parity.sides.tensorflow_import import import_tensorflow

TORCH = "torch_model"
TORCH_AHEAD = "torch_model, images ahead"
TENSORFLOW = "reference_tf"
ONE_RUN = "one session.run"

MAX_SCORE_DIFFERENCE = 1e-3
"""Scores of the same image that differ by more are not the same work."""

_BUILT_IN = ((480, 640), (640, 480), (427, 640), (333, 500), (640, 640), (375, 500))


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    result.add_argument("checkpoint", nargs="?", help="of D0; default: a seeded one")
    result.add_argument("--images", type=Path, metavar="DIR", help="default: six built-in ones")
    result.add_argument("--profile", default="official-tf-nms", help="default: official-tf-nms")
    result.add_argument("--repeats", type=int, default=3, help="of all images; default: 3")
    result.add_argument("--threads", type=int, default=2, help="on all sides; default: 2")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return result


def write_images(folder: Path) -> list[Path]:
    """The built-in images as JPEG files."""
    import simplejpeg

    from parity.detections.images import photograph_like

    paths = []
    for number, (height, width) in enumerate(_BUILT_IN):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(
            simplejpeg.encode_jpeg(photograph_like(height, width, seed=number), 90)
        )
    return paths


@contextmanager
def one_run(setup: Detection) -> Iterator[Callable[[Path], Any]]:
    """Everything from a file's bytes to boxes as one graph, optimised as TensorFlow does it."""
    import tensorflow as tf

    import reference_tf
    from reference_tf import detection

    v1 = tf.compat.v1
    config, stages = setup.conversion.config, setup.profile.stages()
    built = reference_tf.build(config, *setup.size)
    with built.graph.as_default():
        data = v1.placeholder(tf.string, [])
        pixels, scale = detection.preprocess(
            detection.decode(data, stages), config, setup.size, stages
        )
        for operation in built.images.consumers():
            # The public API feeds the network only from outside the graph.
            for place, tensor in enumerate(operation.inputs):
                if tensor is built.images:
                    operation._update_input(place, pixels)
        found = detection.postprocess(
            built.class_outputs, built.box_outputs, config, setup.size, scale, stages
        )
    options = v1.ConfigProto(intra_op_parallelism_threads=setup.threads)
    with v1.Session(graph=built.graph, config=options) as session:
        built.restore(session, setup.prefix, ema=True)
        fetches = (found.boxes, found.scores, found.classes)
        fetch = session.make_callable(list(fetches), feed_list=[data])
        yield lambda path: fetch(path.read_bytes())


def staged(side: Side, path: Path, seconds: dict[str, float]) -> Any:
    """One image's detections; adds what each stage took."""
    before = dict(side.seconds)
    prepared = side.prepare(path)
    found = side.detect([prepared])[0]
    for stage, value in prepared.seconds.items():
        seconds[stage] += value
    for stage, value in side.seconds.items():
        seconds[stage] += value - before.get(stage, 0.0)
    return found


def measure(setup: Detection, paths: Sequence[Path], repeats: int) -> dict[str, Any]:
    """Seconds per image of each way, taking turns image by image; of ours by stage too."""
    with ExitStack() as stack:
        sides = {
            TORCH: stack.enter_context(detecting("torch").open(setup)),
            TENSORFLOW: stack.enter_context(detecting("tensorflow").open(setup)),
        }
        whole = stack.enter_context(one_run(setup))
        stages: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        taken: dict[str, list[float]] = {
            name: [] for name in (TORCH, TENSORFLOW, ONE_RUN, TORCH_AHEAD)
        }
        check(sides, whole, paths[0])

        def timed(name: str, call: Callable[[], object]) -> None:
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)

        def in_stages(name: str, path: Path) -> None:
            stages[name].append(defaultdict(float))
            staged(sides[name], path, stages[name][-1])

        for turn in range(repeats + 1):
            for path in paths:
                for name in sides:
                    timed(name, lambda name=name, path=path: in_stages(name, path))
                timed(ONE_RUN, lambda path=path: whole(path))
            began = time.perf_counter()
            side = sides[TORCH]
            with closing(ahead(side.prepare, paths, BATCHES_AHEAD)) as prepared:
                for item in prepared:
                    side.detect([item])
            taken[TORCH_AHEAD].append((time.perf_counter() - began) / len(paths))
            if not turn:
                # The first turn warms up.
                for values in (*taken.values(), *stages.values()):
                    values.clear()
    rows = {name: common.summary(values) for name, values in taken.items()}
    medians = {
        name: {
            stage: round(float(np.median([item[stage] for item in items])), 5) for stage in items[0]
        }
        for name, items in stages.items()
    }
    return {
        "rows": rows,
        "median_seconds_of_stages": medians,
        "outside_the_network": {name: round(_outside(item), 3) for name, item in medians.items()},
        "ratios": {
            key: round(rows[TORCH][f"{key}_seconds"] / rows[ONE_RUN][f"{key}_seconds"], 3)
            for key in ("min", "median")
        },
    }


def _outside(stages: dict[str, float]) -> float:
    """Seconds of the other stages in units of the network's."""
    return sum(stages.values()) / stages["network"] - 1


def check(sides: dict[str, Side], whole: Callable[[Path], Any], path: Path) -> None:
    """See that all ways do the same work."""
    expected = np.sort(whole(path)[1])
    for name, side in sides.items():
        scores = np.sort(staged(side, path, defaultdict(float))[1])
        if len(scores) != len(expected) or (
            np.abs(scores - expected).max(initial=0) > MAX_SCORE_DIFFERENCE
        ):
            raise SystemExit(f"the scores of {name} are not those of {ONE_RUN}")


def text(result: dict[str, Any]) -> str:
    """The result as tables."""
    lines = [("milliseconds per image", "min", "median")]
    for name, row in result["rows"].items():
        lines.append((name, *(f"{1000 * row[f'{key}_seconds']:.1f}" for key in ("min", "median"))))
    lines.append(
        (f"{TORCH} / {ONE_RUN}", *(f"{result['ratios'][key]:.2f}" for key in ("min", "median")))
    )
    stages = result["median_seconds_of_stages"]
    by_stage = [("median of a stage", *stages[TORCH], "outside the network")]
    for name, row in stages.items():
        cells = [f"{1000 * seconds:.1f}" for seconds in row.values()]
        by_stage.append((name, *cells, f"{100 * result['outside_the_network'][name]:.0f} %"))
    return f"{common.table(lines)}\n\n{common.table(by_stage)}"


def main() -> None:
    arguments = parser().parse_args()
    environment.prepare(in_turns=False)
    import_tensorflow()
    from parity.detections.images import image_files
    from torch_model.profiles import get_profile

    with tempfile.TemporaryDirectory() as name:
        source = arguments.checkpoint or str(common.seed("efficientdet-d0", Path(name) / "d0"))
        paths = image_files(arguments.images) if arguments.images else write_images(Path(name))
        files = resolve(source, default_cache(), lambda done, total: None)
        conversion = convert(files, model="efficientdet-d0")
        setup = Detection(
            conversion=conversion,
            prefix=files.prefix,
            profile=get_profile(arguments.profile),
            size=conversion.config.image_size,
            weights="ema",
            device="cpu",
            threads=arguments.threads,
            batch=1,
        )
        print(f"measuring {len(paths)} images ...", file=sys.stderr)
        result = measure(setup, paths, arguments.repeats)
    print(text(result))
    described = {"images": len(paths), "profile": setup.profile.to_dict(), **result}
    common.write(
        arguments.json,
        "detection",
        {**described, "repeats": arguments.repeats},
        arguments.threads,
    )


if __name__ == "__main__":
    main()
