"""``compare.py coco --stage-swap``: the PyTorch pipeline with one stage at a time exchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.conversion import account, convert
from converter.fetch.cached import CheckpointFiles
from converter.hparams.given import Hyperparameters
from converter.progress import Progress
from efficientdet_spec import ASPECT_RATIOS, Cause, InputError, NodeKind, require_extra
from parity.coco.swaps import MISTAKE, TENSORFLOW, StageSwap, Swap, judge
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.other_stages import decode, torch_resizes
from parity.commands.detecting.torch_detection import TorchDetecting
from parity.detections.image_sizes import check_size
from parity.detections.rows import as_rows
from parity.detections.shard_files import ImageResult, Shard, ShardFolder
from parity.detections.shards import Work
from parity.pipelines import running
from parity.pipelines.stages import BY_SLUG
from parity.pipelines.stages import pipeline as whole_pipelines
from parity.pipelines.stages.anchors import of_pipeline
from parity.pipelines.stages.resizing import RESIZES, Geometry
from parity.pipelines.stages.selecting import MOST, Predictions
from parity.process import environment

if TYPE_CHECKING:
    from parity.detections.annotations import Annotations, CocoImage
    from torch_model.detector import Detector

BASELINE = "baseline"
"""Slug of the pipeline without an exchange."""

EXCHANGED = (
    "opencv-decode",
    "bgr",
    "opencv-resize",
    "torch-resize",
    "antialias",
    "legacy-resize",
    "resize-first",
    "raw-weights",
    "zero-padded-pool",
    "pair-anchors",
    "max-per-anchor",
    "hard-nms",
    "tensorflow-nms",
    "no-last-pixel",
    "clip-first",
)
"""The known mistakes of :mod:`parity.pipelines.stages` whose price is shown."""

SWAPS = (
    Swap("tensorflow-decode", "TensorFlow's decoder", "decode", TENSORFLOW),
    Swap("tensorflow-preprocess", "TensorFlow's preprocessing", "preprocess", TENSORFLOW),
    Swap("tensorflow-network", "TensorFlow's network", "network", TENSORFLOW),
    Swap("tensorflow-postprocess", "TensorFlow's postprocessing", "postprocess", TENSORFLOW),
    *(Swap(slug, BY_SLUG[slug].title, BY_SLUG[slug].stage, MISTAKE) for slug in EXCHANGED),
)
"""Every exchange, in the order of results."""


@dataclass(frozen=True)
class Pipeline:
    """From an image file to detections; pipelines that share functions share their results.

    Attributes:
        decode: A file to uint8 [h, w, 3] in RGB order.
        preprocess: A file, for messages, and its pixels to a
            :class:`torch_model.preprocess.NetworkInput`.
        network: Pixels [H, W, 3] to :class:`torch_model.postprocess.Outputs`.
        postprocess: These and the factor from pixels of the input to those of the image to
            boxes [K, 4] as [y1, x1, y2, x2] in pixels of the image, scores and classes.
    """

    decode: Callable[[Path], Any]
    preprocess: Callable[[Path, Any], Any]
    network: Callable[[Any], Any]
    postprocess: Callable[[Any, Any], tuple[Any, Any, Any]]


def swaps_of(setup: Detection, *, with_tensorflow: bool) -> list[Swap]:
    """The exchanges that change this pipeline: not those that its profile has already.

    Args:
        setup: The pipeline.
        with_tensorflow: Whether stages of TensorFlow are among them.
    """
    faithful = whole_pipelines.Pipeline.of(setup.around)
    without = {slug for slug in EXCHANGED if faithful.changed(BY_SLUG[slug].changes) == faithful}
    if faithful.nms not in ("soft", "hard", "linear", "diou"):
        without.add("no-last-pixel")
    if setup.conversion.config.aspect_ratios != ASPECT_RATIOS:
        # They stand for the default's, and for no others.
        without.add("pair-anchors")
    if not has_raw_twins(setup):
        without.add("raw-weights")
    return [
        swap
        for swap in SWAPS
        if swap.slug not in without and (with_tensorflow or swap.origin != TENSORFLOW)
    ]


def has_raw_twins(setup: Detection) -> bool:
    """Whether the checkpoint holds raw values besides the averages that the pipeline takes."""
    ledger = setup.conversion.ledger
    if setup.weights == "raw" or not any(row.use == "ema" for row in ledger.rows):
        return False
    try:
        raw = account(
            _files(setup),
            model=ledger.config.name,
            num_classes=ledger.config.num_classes,
            weights="raw",
            hyperparameters=Hyperparameters.exactly(ledger.config),
        )
    except InputError:
        # The file holds averages alone.
        return False
    return not raw.findings


def raw_values(setup: Detection) -> Any:
    """The checkpoint's raw values instead of their moving averages."""
    config = setup.conversion.config
    return convert(
        _files(setup),
        model=config.name,
        num_classes=config.num_classes,
        weights="raw",
        hyperparameters=Hyperparameters.exactly(config),
    )


def _files(setup: Detection) -> CheckpointFiles:
    source = str(setup.conversion.provenance["source"])
    return CheckpointFiles(setup.prefix, source, None, strip=setup.conversion.ledger.stripped)


def check(annotations: Annotations, frameworks: Sequence[str]) -> None:
    """Refuse what no table can be made of, before anything is computed.

    Raises:
        InputError: There are no boxes, PyTorch is left out, or OpenCV is missing.
    """
    if annotations.boxes is None:
        raise InputError(
            f"--stage-swap compares metrics, but {annotations.source} has no boxes; give "
            f"annotations of a validation set.",
            Cause.OPTION,
        )
    if "torch" not in frameworks:
        raise InputError(
            "--stage-swap exchanges stages of the PyTorch pipeline, which --framework tensorflow "
            "leaves out; leave that option out, or take --framework torch.",
            Cause.OPTION,
        )
    # Its decoder and its resize are among the stages.
    require_extra("images", "--stage-swap")


def run(
    setup: Detection,
    folder: Path,
    work: Work,
    fingerprint: str,
    annotations: Annotations,
    *,
    with_tensorflow: bool,
) -> StageSwap:
    """Compute what is not in the folder yet, and judge it.

    Images go through the networks one at a time, whatever the batch of the rest.

    Args:
        setup: The pipeline.
        folder: For the shards of each exchange, in folders of their own.
        work: What is to be detected.
        fingerprint: Of the work.
        annotations: With boxes.
        with_tensorflow: Whether stages of TensorFlow are exchanged too.

    Raises:
        InputError: The folder holds another run's shards or cannot be written.
    """
    setup, work = replace(setup, batch=1), replace(work, batch=1)
    swaps = swaps_of(setup, with_tensorflow=with_tensorflow)
    folders: dict[str, ShardFolder] = {}
    origins = {swap.slug: swap.origin for swap in swaps}
    for slug in [BASELINE, *(swap.slug for swap in swaps)]:
        manifest = {**TorchDetecting().manifest(setup)} | {"images": fingerprint, "swap": slug}
        if origins.get(slug) == TENSORFLOW:
            manifest["tensorflow"] = environment.describe(None)["packages"]["tensorflow"]
        folders[slug] = ShardFolder.claim(folder / f"swap-{slug}", manifest)
    with Progress("exchanging stages", unit="images") as progress:
        results = _results(setup, folders, work, progress)
    with Progress("evaluating exchanged stages", unit="stages") as progress:
        swapped = {swap: results[swap.slug] for swap in swaps}
        return judge(annotations, results[BASELINE], swapped, progress)


def _results(
    setup: Detection,
    folders: Mapping[str, ShardFolder],
    work: Work,
    progress: Callable[[int, int], None],
) -> dict[str, list[ImageResult]]:
    """Each pipeline's results of all images, computed where its shard is missing."""
    parts = list(enumerate(work.parts()))
    left = {
        number: [slug for slug, folder in folders.items() if not folder.has(number)]
        for number, _ in parts
    }
    needed = {slug for slugs in left.values() for slug in slugs}
    done = sum(len(part) for number, part in parts if not left[number])
    with ExitStack() as stack:
        if needed:
            progress(done, len(work.images))
            pipelines = stack.enter_context(open_pipelines(setup, needed))
        for number, part in parts:
            if not left[number]:
                continue
            wanted = {slug: pipelines[slug] for slug in left[number]}
            found = []
            for image in part:
                found.append(detect(work.folder, image, wanted))
                done += 1
                progress(done, len(work.images))
            for slug in wanted:
                folders[slug].write(number, Shard([results[slug] for results in found], {}))
    return {
        slug: [result for number, part in parts for result in folder.read(number, part).images]
        for slug, folder in folders.items()
    }


def detect(
    folder: Path, image: CocoImage, pipelines: Mapping[str, Pipeline]
) -> dict[str, ImageResult]:
    """One image through all pipelines, each stage computed once for those that share its input.

    Args:
        folder: Of the image's file.
        image: As the annotations have it.
        pipelines: By slug.
    """
    path = folder / image.file_name
    results: dict[str, ImageResult] = {}
    decoded: dict[Any, Any] = {}
    prepared: dict[Any, Any] = {}
    inputs: dict[bytes, Any] = {}
    # One network's outputs at a time: those of a large model take 160 MB.
    groups: dict[tuple[bytes, Any], list[str]] = {}
    for slug, pipeline in pipelines.items():
        decode, both = pipeline.decode, (pipeline.decode, pipeline.preprocess)
        try:
            if decode not in decoded:
                decoded[decode] = _decode(decode, path, image)
            if both not in prepared:
                prepared[both] = pipeline.preprocess(path, decoded[decode])
        except InputError as error:
            results[slug] = ImageResult.failed(image.id, error)
            continue
        # Different ways often lead to the very same pixels.
        key = _digest(prepared[both])
        inputs[key] = prepared[both]
        groups.setdefault((key, pipeline.network), []).append(slug)
    for (key, network), slugs in groups.items():
        try:
            outputs = network(inputs[key].pixels)
        except InputError as error:
            results |= {slug: ImageResult.failed(image.id, error) for slug in slugs}
            continue
        for slug in slugs:
            try:
                # Boxes of mistaken weights may be infinite, which is a result too.
                with np.errstate(all="ignore"):
                    found = pipelines[slug].postprocess(outputs, inputs[key].scale)
                results[slug] = ImageResult(image.id, as_rows(*found))
            except InputError as error:
                results[slug] = ImageResult.failed(image.id, error)
    return results


def _decode(decode: Callable[[Path], Any], path: Path, image: CocoImage) -> Any:
    pixels = decode(path)
    check_size(path, pixels.shape[:2], image)
    return pixels


def _digest(prepared: Any) -> bytes:
    pixels = np.ascontiguousarray(prepared.pixels)
    return hashlib.sha256(pixels.tobytes() + np.float32(prepared.scale).tobytes()).digest()


@contextmanager
def open_pipelines(setup: Detection, slugs: set[str]) -> Iterator[dict[str, Pipeline]]:
    """The pipelines of these slugs.

    Args:
        setup: The pipeline without an exchange; its batch is 1.
        slugs: Of exchanges that it allows, or :data:`BASELINE`.
    """
    import torch

    from parity.sides.pytorch.device import open_device
    from torch_model.decode import read_image

    device = open_device(setup.device)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        detector = detector_of(setup, setup.conversion, device)
        baseline = Pipeline(
            partial(read_image, fast_dct=setup.profile.decode == "fast-dct"),
            lambda _, image: detector.preprocess(image),
            partial(forward, detector),
            partial(_postprocess, detector),
        )
        with ExitStack() as stack:
            changes = _mistakes(detector, slugs)
            if "raw-weights" in slugs:
                raw = detector_of(setup, raw_values(setup), device)
                changes["raw-weights"] = partial(forward, raw)
            if any(swap.origin == TENSORFLOW and swap.slug in slugs for swap in SWAPS):
                changes |= of_tensorflow(setup, stack)
            pipelines = {BASELINE: baseline} | {
                swap.slug: _exchanged(baseline, swap.stage, changes[swap.slug])
                for swap in SWAPS
                if swap.slug in slugs
            }
            yield pipelines
    finally:
        torch.set_num_threads(before)


def _exchanged(baseline: Pipeline, stage: str, function: Any) -> Pipeline:
    changes: dict[str, Any] = {stage: function}
    return replace(baseline, **changes)


def detector_of(setup: Detection, conversion: Any, device: Any) -> Detector:
    """The pipeline with a conversion's values, on a device."""
    from torch_model.checkpoint import from_arrays
    from torch_model.detector import Detector

    model = from_arrays(conversion.config, conversion.arrays, source=str(setup.prefix)).eval()
    return Detector(model, setup.profile, device=device, size=setup.size, form=setup.form)


def forward(detector: Detector, pixels: Any) -> Any:
    """The network's outputs for pixels [H, W, 3]."""
    import torch

    from torch_model.postprocess import split_outputs

    with torch.inference_mode():
        images = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).to(detector.device)
        class_outputs, box_outputs = detector.model(images)
        return split_outputs(class_outputs, box_outputs, detector.model.config.num_classes)[0]


def forward_zero_padded(detector: Detector, pixels: Any) -> Any:
    """The same where max-pools take zeros around their input."""
    with zero_padded_pools(detector.model):
        return forward(detector, pixels)


@contextmanager
def zero_padded_pools(model: Any) -> Iterator[None]:
    """Within it the model's max-pools take zeros where they should take nothing (-inf)."""
    from parity.faults.basics.case import Site
    from parity.faults.families.resampling import POOL_ZERO_PADDING
    from torch_model.layers import MaxPool2d

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, MaxPool2d):
                site = Site(name=name, kind=NodeKind.POOL, module=module)
                stack.enter_context(POOL_ZERO_PADDING.inject(site))
        yield


def _postprocess(detector: Detector, outputs: Any, scale: Any) -> tuple[Any, Any, Any]:
    from torch_model.postprocess import postprocess

    found = postprocess(outputs, detector.anchors, detector.size, scale, detector.around)
    return found.boxes, found.scores, found.classes


def _mistakes(detector: Detector, slugs: Collection[str]) -> dict[str, Any]:
    """The stage of each of these mistakes that needs no other weights."""
    faithful = whole_pipelines.Pipeline.of(detector.around)
    found: dict[str, Any] = {}
    for slug in (name for name in EXCHANGED if name in slugs):
        mistake = BY_SLUG[slug]
        pipeline = faithful.changed(mistake.changes)
        if mistake.stage == "decode":
            found[slug] = partial(decode, kind=pipeline.decode)
        elif mistake.stage == "preprocess":
            found[slug] = partial(_preprocess_of, pipeline, detector.size)
        elif mistake.stage == "postprocess":
            anchors = of_pipeline(pipeline, detector.model.config, detector.size)
            most = max(MOST, detector.around.max_nms_inputs)
            found[slug] = partial(_postprocess_of, pipeline, detector.size, anchors, most)
    return found | {"zero-padded-pool": partial(forward_zero_padded, detector)}


def _preprocess_of(pipeline: Any, size: tuple[int, int], _: Path, image: Any) -> Any:
    from torch_model.preprocess import NetworkInput

    pixels, place = running.prepared(pipeline, image, size, {**RESIZES, **torch_resizes()})
    return NetworkInput(pixels, np.float32(1) / place.scale[0])


def _postprocess_of(
    pipeline: Any, size: tuple[int, int], anchors: Any, most: int, outputs: Any, scale: Any
) -> tuple[Any, Any, Any]:
    inverse = np.float32(1) / np.float32(scale)
    # No mistake here asks where the image lies.
    place = Geometry((inverse, inverse), size, (0, 0), size)
    predictions = Predictions.of(outputs, most)
    these = running.candidates(pipeline, predictions, anchors, place, size).kept(pipeline)
    return these.boxes * scale, these.scores, these.classes


def of_tensorflow(setup: Detection, stack: ExitStack, *, optimised: bool = False) -> dict[str, Any]:
    """TensorFlow's stages, with PyTorch's types, by the names of their exchanges.

    Args:
        setup: The model and the stages; one image goes through the network at a time.
        stack: Closes them.
        optimised: Whether TensorFlow may rewrite the network's graph.
    """
    from parity.commands.detecting.tensorflow_detection import tensorflow_stages
    from torch_model.postprocess import Outputs
    from torch_model.preprocess import NetworkInput

    stages = stack.enter_context(tensorflow_stages(setup, optimised=optimised))
    config = setup.conversion.config
    sizes = list(config.feature_sizes(*setup.size).values())

    def preprocess(path: Path, image: Any) -> NetworkInput:
        pixels, scale = stages.preprocess(path, image)
        return NetworkInput(pixels[0], scale)

    def network(pixels: Any) -> Outputs:
        outputs = stages.network(pixels[None])
        half = len(sizes)
        return Outputs(
            [level.reshape(-1, config.num_classes) for level in outputs[:half]],
            [level.reshape(-1, 4) for level in outputs[half:]],
        )

    def postprocess(outputs: Outputs, scale: Any) -> tuple[Any, Any, Any]:
        levels = [
            level.reshape(1, rows, columns, -1)
            for kind in (outputs.classes, outputs.boxes)
            for level, (rows, columns) in zip(kind, sizes, strict=True)
        ]
        return stages.postprocess(levels, scale)

    return {
        "tensorflow-decode": stages.decode,
        "tensorflow-preprocess": preprocess,
        "tensorflow-network": network,
        "tensorflow-postprocess": postprocess,
    }
