"""Images, as the PyTorch side decodes them, and TensorFlow what it accepts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from made_images import waves

from efficientdet_spec import InputError
from efficientdet_spec.encoded import MAX_PIXELS, MAX_SIDE
from fuzzing.damage.pictures import BMP, JPEG, PNG
from fuzzing.damage.raw import RAW, splice
from fuzzing.target import MIB, Target
from torch_model.decode import read_image

_LARGE = 2**22
"""TensorFlow does not decode again what has more pixels."""

_FILES = {"grey": "a.png", "colour": "b.png", "bmp": "c.bmp", "jpeg": "d.jpg", "grey jpeg": "e.jpg"}


class Reader(Target):
    """The pixels; where TensorFlow is installed, it must decode the same or refuse."""

    WHAT = "images, PNG, BMP and JPEG (`read_image`; TensorFlow's on what is accepted)"
    CHECKSUMS = False
    # A sound image may have 2**27 pixels of three bytes, which are turned round once.
    MEMORY = 3 * 3 * MAX_PIXELS + 64 * MIB
    EXAMPLES = 20_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self.files = _sound()
        other = {name: _encoded(name, waves(17, 9, 5)) for name in self.files}
        kinds = {".png": PNG, ".bmp": BMP, ".jpg": JPEG}
        self.damages = {
            name: {**RAW, **kinds[Path(name).suffix], "splice": splice(other[name])}
            for name in self.files
        }
        self._tensorflow = _tensorflow_reader()
        self._sound: dict[str, bytes] = {}
        for name, data in self.files.items():
            path = material / f"image-{name}"
            path.write_bytes(data)
            self._sound[name] = read_image(path).tobytes()

    def _name(self, changed: frozenset[str]) -> str:
        return min(changed) if changed else "a.png"

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        path = folder / self._name(changed)
        image = read_image(path)
        again = None
        if self._tensorflow is not None and image.size < _LARGE:
            try:
                again = self._tensorflow(path)
            except InputError as error:
                again = error
        return image, again

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        image, again = value
        sound = self._sound[self._name(changed)]
        return bool(image.tobytes() == sound) and self._agrees(image, again) is None

    def promise(self, value: Any) -> str | None:
        image, again = value
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            return f"no image of three channels: {image.dtype} {image.shape}"
        if (
            not 1 <= max(image.shape[:2]) <= MAX_SIDE
            or image.shape[0] * image.shape[1] > MAX_PIXELS
        ):
            return f"an image of {image.shape}"
        return self._agrees(image, again)

    @staticmethod
    def _agrees(image: Any, again: Any) -> str | None:
        if again is None:
            return None
        if isinstance(again, InputError):
            return "TensorFlow refuses what was accepted"
        if again.shape != image.shape or (again != image).any():
            return "TensorFlow decodes other pixels"
        return None


def _tensorflow_reader() -> Any:
    if importlib.util.find_spec("tensorflow") is None:
        return None
    from reference_tf.detection import read_image as tensorflow_image

    return lambda path: tensorflow_image(path).numpy()


def _encoded(name: str, image: Any) -> bytes:
    if name == "e.jpg":
        return bytes(simplejpeg.encode_jpeg(image[..., :1].copy(), 90, "GRAY"))
    if name == "d.jpg":
        return bytes(simplejpeg.encode_jpeg(image, 90))
    levels = image[..., 0] if name == "a.png" else image[..., ::-1]
    return cv2.imencode(Path(name).suffix, levels)[1].tobytes()


def _sound() -> dict[str, bytes]:
    return {name: _encoded(name, waves(12, 13)) for name in _FILES.values()}
