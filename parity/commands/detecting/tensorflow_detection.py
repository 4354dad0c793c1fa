"""Detection by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converter.filling import fill
from efficientdet_spec import Cause, InputError
from efficientdet_spec.encoded import check_encoded, read_encoded
from efficientdet_spec.prefetch import Cores
from parity.commands.detecting.detection import OPTIMISED, Detection, Stopwatch
from parity.detections.messages import SideName
from parity.sides.tensorflow_import import import_tensorflow


@dataclass(frozen=True)
class TensorflowDetecting:
    """The reference; see :class:`parity.commands.detecting.detectors.Detecting`."""

    name = "tensorflow"
    described = "TensorFlow"

    def files(self) -> Sequence[Path]:
        """None but the checkpoint's."""
        return ()

    def manifest(self, setup: Detection) -> Mapping[str, Any]:
        """The checkpoint, the stages, the versions, and that the network's graph is rewritten."""
        described = setup.manifest(self.name, ("tensorflow", "numpy"))
        return {**described, "graph_optimizer": OPTIMISED}

    def open(self, setup: Detection) -> AbstractContextManager[_TensorflowSide]:
        """The graph with the checkpoint's values, and the stages around it."""
        return tensorflow_side(setup)

    def notes(self) -> Sequence[str]:
        """None."""
        return ()

    def elsewhere(self) -> SideName:
        """The framework's name."""
        return SideName(kind="tensorflow")


class TensorflowStages:
    """The reference's graph and the stages around it, each run on its own.

    What leaves a stage and enters the next is not copied: TensorFlow and NumPy share its memory.

    Args:
        around: A session for the stages around the network.
        within: A session with the checkpoint's values, for the network.
        graph: The placeholders and results of each stage by name.
    """

    def __init__(self, around: Any, within: Any, graph: Mapping[str, Any]) -> None:
        self._decode = around.make_callable(graph["decoded"], [graph["data"]])
        self._preprocess = around.make_callable(list(graph["prepared"]), [graph["image"]])
        self._network = within.make_callable(graph["outputs"], [graph["pixels"]])
        entering = [*graph["levels"], graph["scale"]]
        self._postprocess = around.make_callable(list(graph["found"]), entering)

    def _run(self, path: Path, stage: Callable[[Any], Any], entering: Any) -> Any:
        import tensorflow as tf

        try:
            return stage(entering)
        except tf.errors.InvalidArgumentError as error:
            # A stack of places in the graph, then why, then indented the operation once more.
            lines = str(error.message).splitlines()
            reason = [line for line in lines if line and not line[0].isspace()][-1]
            raise InputError(
                f"{path} is no image that TensorFlow processes ({reason:.120}); give a JPEG, PNG "
                f"or BMP file.",
                Cause.FORMAT,
            ) from error

    def decode(self, path: Path) -> Any:
        """An image file as uint8 [h, w, 3] in RGB order.

        Raises:
            InputError: The file cannot be read, or TensorFlow decodes it to no single image.
        """
        data = read_encoded(path)
        # TensorFlow takes the memory for whatever a header claims, and ends the process without it.
        check_encoded(data, str(path))
        image = self._run(path, self._decode, data)
        if image.ndim != 3:
            raise InputError(
                f"{path} is a sequence of frames; give a JPEG, PNG or BMP file.", Cause.FORMAT
            )
        return image

    def preprocess(self, path: Path, image: Any) -> tuple[Any, Any]:
        """The network's input [1, H, W, 3] and the factor from its pixels to the image's.

        Args:
            path: The image's file, for messages.
            image: uint8 [h, w, 3] in RGB order.

        Raises:
            InputError: TensorFlow refuses the image.
        """
        pixels, scale = self._run(path, self._preprocess, image)
        return pixels, scale

    def network(self, pixels: Any) -> list[Any]:
        """Class outputs, then box outputs, each [N, H_l, W_l, channels] from the finest level.

        Args:
            pixels: [N, H, W, 3], as many images as the graph was built for.
        """
        outputs: list[Any] = self._network(pixels)
        return outputs

    def postprocess(self, outputs: Sequence[Any], scale: Any) -> tuple[Any, Any, Any]:
        """Boxes [K, 4] as [y1, x1, y2, x2] in pixels of the image, scores and classes.

        Args:
            outputs: As of :meth:`network`, of one image.
            scale: Factor from pixels of the input to those of the image.
        """
        boxes, scores, classes = self._postprocess(*outputs, scale)
        return boxes, scores, classes


class _TensorflowSide:
    """Detection by :class:`TensorflowStages`."""

    def __init__(self, stages: TensorflowStages, batch: int, cores: Cores) -> None:
        self._stages = stages
        self._batch = batch
        self._cores = cores
        self._watch = Stopwatch()
        self.seconds = self._watch.seconds

    def prepare(self, path: Path) -> Any:
        from parity.detections.shards import Prepared

        self._cores.wait()
        watch = Stopwatch()
        image = self._stages.decode(path)
        watch.lap("decode")
        prepared = self._stages.preprocess(path, image)
        watch.lap("preprocess")
        return Prepared(image.shape[0], image.shape[1], prepared, watch.seconds)

    def detect(self, images: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        self._watch.start()
        pixels = images[0].value[0]
        if self._batch > 1:
            pixels = np.zeros((self._batch, *pixels.shape[1:]), np.float32)
            for place, item in enumerate(images):
                pixels[place] = item.value[0][0]
        with self._cores.taken():
            outputs = self._stages.network(pixels)
        self._watch.lap("network")
        results = [
            self._stages.postprocess(
                [output[place : place + 1] for output in outputs], item.value[1]
            )
            for place, item in enumerate(images)
        ]
        self._watch.lap("postprocess")
        return results


@contextmanager
def tensorflow_side(setup: Detection) -> Iterator[_TensorflowSide]:
    """The graph with the checkpoint's values, and the stages around it."""
    with tensorflow_stages(setup, optimised=True) as stages:
        cores = Cores(setup.threads if setup.device == "cpu" else 0)
        yield _TensorflowSide(stages, setup.batch, cores)


@contextmanager
def tensorflow_stages(setup: Detection, *, optimised: bool) -> Iterator[TensorflowStages]:
    """The stages of :func:`tensorflow_side`, each to be run alone.

    Args:
        setup: The model and the stages around it.
        optimised: Whether TensorFlow may rewrite the network's graph.

    Raises:
        InputError: TensorFlow is not installed, or the device or the checkpoint cannot be used.
    """
    import_tensorflow()
    import tensorflow as tf

    import reference_tf
    from reference_tf import detection

    v1 = tf.compat.v1
    config, stages = setup.conversion.config, setup.profile.stages()
    built = reference_tf.build(config, *setup.size, batch=setup.batch)
    outputs = [*built.class_outputs, *built.box_outputs]
    with built.graph.as_default(), tf.device("/cpu:0"):
        data = v1.placeholder(tf.string, [])
        image = v1.placeholder(tf.uint8, [None, None, 3])
        scale = v1.placeholder(tf.float32, [])
        levels = [v1.placeholder(tf.float32, [1, *output.shape[1:]]) for output in outputs]
        half = len(built.class_outputs)
        found = detection.postprocess(
            levels[:half], levels[half:], config, setup.size, scale, stages
        )
        graph = {
            "data": data,
            "decoded": detection.decode(data, stages),
            "image": image,
            "prepared": detection.preprocess(image, config, setup.size, stages),
            "pixels": built.images,
            "outputs": outputs,
            "levels": levels,
            "scale": scale,
            "found": (found.boxes, found.scores, found.classes),
        }
    opened = partial(reference_tf.open_session, built.graph, setup.threads, device=setup.device)
    with opened() as around, opened(optimised=optimised) as within:
        fill(built, within, setup.conversion)
        yield TensorflowStages(around, within, graph)
