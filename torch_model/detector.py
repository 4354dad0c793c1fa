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

from efficientdet_spec import Cause, InputError
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

    Attributes:
        model: The network.
        profile: The variant of each stage.
        around: What that is for this model.
        size: (height, width) of the network's input.
        anchors: [A, 4] as [y1, x1, y2, x2] in pixels of the input.

    Raises:
        InputError: The model cannot process this size or has no such profile, or the device does
            not exist.
    """

    def __init__(
        self,
        model: EfficientDet,
        profile: Profile = OFFICIAL,
        *,
        device: str | torch.device = "cpu",
        size: tuple[int, int] | None = None,
    ) -> None:
        self.profile = profile
        self.size = size or model.config.image_size
        self.around = Surroundings.of(model.config, profile)
        self.anchors = make_anchors(model.config, *self.size, self.around.aspects)
        try:
            self.device = torch.device(device)
            self.model = model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            # A build of PyTorch without CUDA reports it by an assertion.
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"The model cannot run on device {str(device)!r} ({reason:.120}); choose cpu, or "
                f"a device that this PyTorch has.",
                Cause.DEVICE,
            ) from error

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
        pixels = torch.from_numpy(np.stack([item.pixels for item in inputs]))
        class_outputs, box_outputs = self.model(pixels.permute(0, 3, 1, 2).to(self.device))
        outputs = split_outputs(class_outputs, box_outputs, self.model.config.num_classes)
        return [
            postprocess(output, self.anchors, self.size, item.scale, self.around)
            for output, item in zip(outputs, inputs, strict=True)
        ]
