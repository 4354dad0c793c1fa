"""From image files or arrays to boxes in their pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError
from efficientdet_spec.forms import EAGER, FORMS, OPTIMIZED
from torch_model.anchors import make_anchors
from torch_model.decode import decode_image, read_image
from torch_model.memory import keep_memory
from torch_model.model import EfficientDet
from torch_model.optimized import OptimizedEfficientDet
from torch_model.postprocess import Detections, Outputs, postprocess, split_outputs
from torch_model.preprocess import NetworkInput, preprocess_with_scale
from torch_model.processes import detect_in_processes
from torch_model.profiles import OFFICIAL, Profile
from torch_model.surroundings import Surroundings

Image = str | os.PathLike[str] | bytes | NDArray[np.uint8]

BATCHES_AHEAD = 1
"""So many batches are decoded and preprocessed before the network is free for them."""


class Detector:
    """A model with everything around it.

    Args:
        model: In evaluation mode, or its optimised form; it is moved to the device.
        profile: The variant of each stage.
        device: Where the network runs; the other stages run on the CPU.
        size: (height, width) of the network's input; None: the model's native size.
        form: ``eager``, or ``optimized``: the network is compiled when the first images come; see
            :class:`torch_model.optimized.OptimizedEfficientDet`.
        keeps_memory: Whether this process is to keep memory that it frees, without which large
            images take up to twice as long; see :func:`torch_model.memory.keep_memory`.

    Attributes:
        model: The network.
        profile: The variant of each stage.
        around: What that is for this model.
        size: (height, width) of the network's input.
        anchors: [A, 4] as [y1, x1, y2, x2] in pixels of the input.

    Raises:
        InputError: The model cannot process this size or has no such profile, or there is no such
            device or form.
    """

    def __init__(
        self,
        model: EfficientDet | OptimizedEfficientDet,
        profile: Profile = OFFICIAL,
        *,
        device: str | torch.device = "cpu",
        size: tuple[int, int] | None = None,
        form: str = EAGER,
        keeps_memory: bool = True,
    ) -> None:
        if form not in FORMS:
            raise InputError(
                f"There is no form {form!r:.80} of a model; give {' or '.join(FORMS)}.",
                Cause.OPTION,
            )
        self._keeps_memory = keeps_memory
        if keeps_memory:
            keep_memory()
        self.profile = profile
        self.size = size or model.config.image_size
        self.around = Surroundings.of(model.config, profile)
        self.anchors = make_anchors(model.config, *self.size, self.around.aspects)
        try:
            self.device = torch.device(device)
            placed: Any = model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            # A build of PyTorch without CUDA reports it by an assertion.
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"The model cannot run on device {str(device)!r} ({reason:.120}); choose cpu, or "
                f"a device that this PyTorch has.",
                Cause.DEVICE,
            ) from error
        if form == OPTIMIZED and not isinstance(placed, OptimizedEfficientDet):
            placed = placed.optimized(keeps_memory=keeps_memory)
        self.model: EfficientDet | OptimizedEfficientDet = placed
        # How many images :meth:`detect_inputs` fills fewer up to, for what is compiled.
        self._together = 1

    def prepare(self, batch: int = 1) -> None:
        """Let everything be done that only the first images would wait for.

        Args:
            batch: Images that will go through the network together.

        Raises:
            InputError: None will.
        """
        _require_images(batch)
        self._together = batch
        if isinstance(self.model, OptimizedEfficientDet):
            blank = NetworkInput(np.zeros((*self.size, 3), np.float32), np.float32(1))
            self._predict([blank], batch)

    def detect(
        self, images: Sequence[Image], batch: int = 1, *, processes: int = 1
    ) -> Iterator[Detections]:
        """The detections of each image, in order.

        The next images are decoded and preprocessed in a thread of its own, while these are
        postprocessed and the caller works with them. Beside the network they are only where that
        leaves a core free: on a GPU, or with fewer threads than cores.

        Args:
            images: Files, their contents, or uint8 [h, w, 3] arrays in RGB order.
            batch: Images that go through the network together.
            processes: With more than one the images are detected by so many processes of this
                machine, which share its cores. Each imports the program, so that this is to be
                called behind ``if __name__ == "__main__":``, and has a model of its own.

        Raises:
            InputError: An image cannot be used, the network's predictions hold NaN, or a process
                cannot be used.
        """
        _require_images(batch)
        if processes < 1:
            raise InputError(
                f"{processes} processes detect nothing; give one or more.", Cause.OPTION
            )
        if processes > 1:
            return detect_in_processes(self._again, images, batch, processes)
        return self._detect(images, batch)

    def _detect(self, images: Sequence[Image], batch: int) -> Iterator[Detections]:
        remaining = iter(images)
        groups = iter(lambda: list(islice(remaining, batch)), [])
        pool = ThreadPoolExecutor(1, thread_name_prefix="preprocess")

        def next_inputs() -> Future[list[NetworkInput]] | None:
            group = next(groups, None)
            return None if group is None else pool.submit(self._prepare, group)

        beside = self.device.type != "cpu" or torch.get_num_threads() < (os.cpu_count() or 1)
        try:
            waiting = next_inputs()
            while waiting is not None:
                inputs = waiting.result()
                if beside:
                    waiting = next_inputs()
                outputs = self._predict(inputs, batch)
                if not beside:
                    waiting = next_inputs()
                yield from self._postprocess(outputs, inputs)
        finally:
            pool.shutdown(cancel_futures=True)

    @property
    def _again(self) -> Callable[[], Detector]:
        """Makes the same in another process."""
        return partial(
            Detector,
            self.model,
            self.profile,
            device=str(self.device),
            size=self.size,
            keeps_memory=self._keeps_memory,
        )

    def _prepare(self, images: Sequence[Image]) -> list[NetworkInput]:
        return [self.preprocess(image) for image in images]

    def preprocess(self, image: Image) -> NetworkInput:
        """The network's input for one image.

        Raises:
            InputError: The image cannot be used.
        """
        fast_dct = self.profile.decode == "fast-dct"
        if isinstance(image, bytes):
            image = decode_image(image, fast_dct=fast_dct)
        elif not isinstance(image, np.ndarray):
            image = read_image(image, fast_dct=fast_dct)
        return preprocess_with_scale(
            image,
            *self.size,
            half_pixel=self.profile.resize == "half-pixel",
            normalisation=self.around.normalisation,
        )

    def detect_inputs(self, inputs: Sequence[NetworkInput]) -> list[Detections]:
        """The detections of images that :meth:`preprocess` has prepared, as one batch.

        Args:
            inputs: One or more.

        Raises:
            InputError: The network's predictions hold NaN.
        """
        if not inputs:
            return []
        return self._postprocess(self._predict(inputs, self._together), inputs)

    @torch.inference_mode()
    def _predict(self, inputs: Sequence[NetworkInput], together: int) -> list[Outputs]:
        """The network's outputs for each image.

        Args:
            inputs: The images.
            together: What is compiled is so for one number of images: blank ones fill it up.
        """
        images = [item.pixels for item in inputs]
        if isinstance(self.model, OptimizedEfficientDet):
            images += [np.zeros_like(images[0])] * (together - len(images))
        pixels = torch.from_numpy(np.stack(images) if len(images) > 1 else images[0][None])
        classes, boxes = self.model(pixels.permute(0, 3, 1, 2).to(self.device))
        outputs = split_outputs(classes, boxes, self.model.config.num_classes)
        return outputs[: len(inputs)]

    def _postprocess(
        self, outputs: Sequence[Outputs], inputs: Sequence[NetworkInput]
    ) -> list[Detections]:
        return [
            postprocess(output, self.anchors, self.size, item.scale, self.around)
            for output, item in zip(outputs, inputs, strict=True)
        ]


def _require_images(batch: int) -> None:
    if batch < 1:
        raise InputError(
            f"A batch of {batch} images is empty; give one image or more.", Cause.OPTION
        )
