"""From image files or arrays to boxes in their pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError
from torch_model.anchors import make_anchors
from torch_model.decode import decode_image, read_image
from torch_model.model import EfficientDet
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
        if batch < 1:
            raise InputError(
                f"A batch of {batch} images is empty; give one image or more.", Cause.OPTION
            )
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
                outputs = self._predict(inputs)
                if not beside:
                    waiting = next_inputs()
                yield from self._postprocess(outputs, inputs)
        finally:
            pool.shutdown(cancel_futures=True)

    @property
    def _again(self) -> Callable[[], Detector]:
        """Makes the same in another process."""
        return partial(Detector, self.model, self.profile, device=str(self.device), size=self.size)

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
        return self._postprocess(self._predict(inputs), inputs)

    @torch.inference_mode()
    def _predict(self, inputs: Sequence[NetworkInput]) -> list[Outputs]:
        if len(inputs) == 1:
            pixels = torch.from_numpy(inputs[0].pixels)[None]
        else:
            pixels = torch.from_numpy(np.stack([item.pixels for item in inputs]))
        class_outputs, box_outputs = self.model(pixels.permute(0, 3, 1, 2).to(self.device))
        return split_outputs(class_outputs, box_outputs, self.model.config.num_classes)

    def _postprocess(
        self, outputs: Sequence[Outputs], inputs: Sequence[NetworkInput]
    ) -> list[Detections]:
        return [
            postprocess(output, self.anchors, self.size, item.scale, self.around)
            for output, item in zip(outputs, inputs, strict=True)
        ]
