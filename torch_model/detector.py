"""From image files or arrays to boxes in their pixels."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efficientdet_spec import Cause, InputError
from efficientdet_spec.forms import EAGER, FORMS
from torch_model.anchors import make_anchors
from torch_model.decode import decode_image, read_image
from torch_model.model import EfficientDet
from torch_model.postprocess import Detections, postprocess, split_outputs
from torch_model.preprocess import NetworkInput, preprocess_with_scale
from torch_model.profiles import OFFICIAL, Profile
from torch_model.surroundings import Surroundings

Image = str | os.PathLike[str] | bytes | NDArray[np.uint8]

BATCHES_AHEAD = 2
"""So many batches are decoded and preprocessed while the network computes."""


class Detector:
    """A model with everything around it.

    Args:
        model: In evaluation mode; it is moved to the device.
        profile: The variant of each stage.
        device: Where the network runs; the other stages run on the CPU.
        size: (height, width) of the network's input; None: the model's native size.
        form: ``eager``, or ``optimized``: the network is compiled when the first images come, and
            this process keeps the memory that it frees, as :meth:`EfficientDet.optimized` says.

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
        model: EfficientDet,
        profile: Profile = OFFICIAL,
        *,
        device: str | torch.device = "cpu",
        size: tuple[int, int] | None = None,
        form: str = EAGER,
    ) -> None:
        if form not in FORMS:
            raise InputError(
                f"There is no form {form!r:.80} of a model; give {' or '.join(FORMS)}.",
                Cause.OPTION,
            )
        self.profile = profile
        self.size = size or model.config.image_size
        self.around = Surroundings.of(model.config, profile)
        self.anchors = make_anchors(model.config, *self.size, self.around.aspects)
        try:
            self.device = torch.device(device)
            placed = model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            # A build of PyTorch without CUDA reports it by an assertion.
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"The model cannot run on device {str(device)!r} ({reason:.120}); choose cpu, or "
                f"a device that this PyTorch has.",
                Cause.DEVICE,
            ) from error
        self.model = placed if form == EAGER else placed.optimized()
        # What is compiled is so for one number of images, which fewer are filled up to.
        self._full = 0 if form == EAGER else 1

    def prepare(self, batch: int = 1) -> None:
        """Let everything be done that only the first images would wait for.

        Args:
            batch: Images that will go through the network together.
        """
        if self._full:
            self._full = batch
            blank = np.zeros((*self.size, 3), np.float32)
            with torch.inference_mode():
                self._network([blank] * batch)

    def detect(self, images: Sequence[Image], batch: int = 1) -> Iterator[Detections]:
        """The detections of each image, in order.

        The next images are decoded and preprocessed in a thread of their own meanwhile.

        Args:
            images: Files, their contents, or uint8 [h, w, 3] arrays in RGB order.
            batch: Images that go through the network together.

        Raises:
            InputError: An image cannot be used, or the network's predictions hold NaN.
        """
        if batch < 1:
            raise InputError(
                f"A batch of {batch} images is empty; give one image or more.", Cause.OPTION
            )
        remaining = iter(images)
        groups = iter(lambda: list(islice(remaining, batch)), [])
        pool = ThreadPoolExecutor(1, thread_name_prefix="preprocess")
        try:
            waiting = deque(
                pool.submit(self._prepare, group) for group in islice(groups, BATCHES_AHEAD)
            )
            while waiting:
                inputs = waiting.popleft().result()
                waiting.extend(pool.submit(self._prepare, group) for group in islice(groups, 1))
                yield from self.detect_inputs(inputs)
        finally:
            pool.shutdown(cancel_futures=True)

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

    @torch.inference_mode()
    def detect_inputs(self, inputs: Sequence[NetworkInput]) -> list[Detections]:
        """The detections of images that :meth:`preprocess` has prepared, as one batch.

        Args:
            inputs: One or more.

        Raises:
            InputError: The network's predictions hold NaN.
        """
        class_outputs, box_outputs = self._network([item.pixels for item in inputs])
        outputs = split_outputs(class_outputs, box_outputs, self.model.config.num_classes)
        return [
            postprocess(output, self.anchors, self.size, item.scale, self.around)
            for output, item in zip(outputs, inputs, strict=True)
        ]

    def _network(self, images: Sequence[NDArray[np.float32]]) -> tuple[list[Tensor], list[Tensor]]:
        """The network's outputs for [H, W, 3] images, and for blank ones behind them, if any."""
        self._full = max(self._full, len(images)) if self._full else 0
        pixels = np.stack([*images, *[np.zeros_like(images[0])] * (self._full - len(images))])
        outputs = self.model(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device))
        classes, boxes = ([level[: len(images)] for level in levels] for levels in outputs)
        return classes, boxes
