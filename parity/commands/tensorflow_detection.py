"""Detection by TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientdet_spec import (
    InputError,
)
from parity.commands.detection import (
    Detection,
    Stopwatch,
)
from parity.commands.reference import (
    import_tensorflow,
)

if TYPE_CHECKING:
    pass


class _TensorflowSide:
    """Detection by the reference's graph and the stages around it, each run on its own."""

    def __init__(self, session: Any, graph: Mapping[str, Any], batch: int) -> None:
        self._session = session
        self._graph = graph
        self._batch = batch
        self._watch = Stopwatch()
        self.seconds = self._watch.seconds

    def _run(self, path: Path, fetches: Any, feeds: dict[Any, Any]) -> Any:
        import tensorflow as tf

        try:
            return self._session.run(fetches, feeds)
        except tf.errors.InvalidArgumentError as error:
            # A stack of places in the graph, then why, then indented the operation once more.
            lines = str(error.message).splitlines()
            reason = [line for line in lines if line and not line[0].isspace()][-1]
            raise InputError(
                f"{path} is no image that TensorFlow processes ({reason:.120}); give a JPEG, PNG "
                f"or BMP file."
            ) from error

    def prepare(self, path: Path) -> Any:
        from parity.shards import Prepared

        graph = self._graph
        self._watch.start()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); give an image file."
            ) from error
        image = self._run(path, graph["decoded"], {graph["data"]: data})
        self._watch.lap("decode")
        if image.ndim != 3:
            raise InputError(f"{path} is a sequence of frames; give a JPEG, PNG or BMP file.")
        prepared = self._run(path, graph["prepared"], {graph["image"]: image})
        self._watch.lap("preprocess")
        return Prepared(image.shape[0], image.shape[1], prepared)

    def detect(self, images: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        graph = self._graph
        self._watch.start()
        pixels = np.zeros((self._batch, *images[0].value[0].shape[1:]), np.float32)
        for place, item in enumerate(images):
            pixels[place] = item.value[0][0]
        outputs = self._session.run(graph["outputs"], {graph["pixels"]: pixels})
        self._watch.lap("network")
        results = []
        for place, item in enumerate(images):
            feeds = {
                placeholder: output[place : place + 1]
                for placeholder, output in zip(graph["levels"], outputs, strict=True)
            }
            feeds[graph["scale"]] = item.value[1]
            results.append(self._session.run(graph["found"], feeds))
        self._watch.lap("postprocess")
        return results


@contextmanager
def tensorflow_side(setup: Detection) -> Iterator[_TensorflowSide]:
    """The graph with the checkpoint's values, and the stages around it."""
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
            "prepared": detection.preprocess(image, *setup.size, stages),
            "pixels": built.images,
            "outputs": outputs,
            "levels": levels,
            "scale": scale,
            "found": (found.boxes, found.scores, found.classes),
        }
    with reference_tf.open_session(built.graph, setup.threads, device=setup.device) as session:
        built.restore(session, setup.prefix, ema=setup.weights == "ema")
        yield _TensorflowSide(session, graph, setup.batch)
