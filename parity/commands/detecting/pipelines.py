"""What pipelines need of PyTorch: decoders, its resizes, and the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from converter.progress import Progress
from parity.commands.detecting import swaps
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.other_stages import decode, torch_resizes
from parity.detections.annotations import CocoImage
from parity.detections.rows import Rows
from parity.pipelines.explanation import Explanation, explain
from parity.pipelines.running import Runner, Tools
from parity.pipelines.stages.pipeline import Pipeline
from parity.pipelines.stages.selecting import MOST


def explained(
    setup: Detection,
    folder: Path,
    categories: Sequence[int],
    images: Sequence[CocoImage],
    rows: Mapping[int, Rows],
) -> Explanation:
    """The known mistakes that make the faithful pipeline's boxes another program's.

    Args:
        setup: The faithful pipeline.
        folder: Of the images.
        categories: Ids that the annotations have, rising.
        images: That the program has detected on.
        rows: Its detections by image.
    """
    faithful = Pipeline.of(setup.around)

    @contextmanager
    def progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        with Progress(title, unit=unit) as told:
            yield told

    with open_tools(setup) as tools:
        config, most = setup.conversion.config, max(MOST, setup.around.max_nms_inputs)
        runner = Runner(tools, config, setup.size, folder, categories, most)
        return explain(runner, faithful, rows, images, setup.size, set(tools.networks), progress)


@contextmanager
def open_tools(setup: Detection) -> Iterator[Tools]:
    """The tools with the checkpoint's networks.

    Args:
        setup: The pipeline.
    """
    import torch

    from parity.sides.pytorch.device import open_device

    device = open_device(setup.device)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        yield Tools(decode, torch_resizes(), _networks(setup, device))
    finally:
        torch.set_num_threads(before)


def _networks(setup: Detection, device: Any) -> Mapping[str, Callable[[Any], Any]]:
    detector = swaps.detector_of(setup, setup.conversion, device)
    found: dict[str, Callable[[Any], Any]] = {
        "faithful": partial(swaps.forward, detector),
        "zero-padded-pool": partial(swaps.forward_zero_padded, detector),
    }
    if swaps.has_raw_twins(setup):
        raw = swaps.detector_of(setup, swaps.raw_values(setup), device)
        found["raw"] = partial(swaps.forward, raw)
    return found
