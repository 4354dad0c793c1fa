"""Whether image files are those of the annotations: where they lie, their sizes, which way up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from efficientdet_spec import Cause, InputError
from efficientdet_spec.encoded import encoded_size
from efficientdet_spec.files import open_regular
from efficientdet_spec.orientation import ON_ITS_SIDE, UPRIGHT, orientation
from parity.detections.annotation_values import listed
from parity.detections.annotations import Annotations, CocoImage

_HEADER_BYTES = 2**18
"""Enough for the size and the Exif data of an image, which come first."""


def located(annotations: Annotations, folder: Path) -> Annotations:
    """The annotations with every image's own path in a folder, and size.

    Args:
        annotations: As read.
        folder: Of the images.

    Raises:
        InputError: No image is there, or the size of one is neither in the annotations nor known.
    """
    images, told = _below(annotations, folder)
    if not any((folder / image.file_name).is_file() for image in images):
        raise InputError(
            f"{folder} has none of the {len(images)} images of {annotations.source}, the first "
            f"being {images[0].file_name}; give the folder of these images.",
            Cause.FILE,
        )
    images = [image if image.width else _with_size(image, folder) for image in images]
    notes = (*annotations.notes, *told, *_turned(images, folder))
    return replace(annotations, images=images, notes=notes)


def _below(annotations: Annotations, folder: Path) -> tuple[Sequence[CocoImage], list[str]]:
    """The images, without the folders before their names where it lies in none of these."""
    images = annotations.images
    plain = [image.file_name.rpartition("/")[2] for image in images]
    apart = [
        place
        for place, image in enumerate(images)
        if plain[place] != image.file_name
        and not (folder / image.file_name).is_file()
        and (folder / plain[place]).is_file()
    ]
    counts = Counter(plain)
    if not apart or any(counts[plain[place]] > 1 for place in apart):
        return images, []
    found = list(images)
    for place in apart:
        found[place] = replace(images[place], file_name=plain[place])
    return found, [
        f"images that lie in {folder.name} itself, not in the folder that their file_name has: "
        f"{len(apart):,} (the first: {images[apart[0]].file_name:.100})"
    ]


def _with_size(image: CocoImage, folder: Path) -> CocoImage:
    path = folder / image.file_name
    try:
        height, width = encoded_size(_header(path), str(path))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}), and the annotations do not say its size.",
            Cause.of(error),
        ) from error
    return replace(image, height=height, width=width)


def _header(path: Path) -> bytes:
    with open_regular(path) as stream:
        return stream.read(_HEADER_BYTES)


def _orientation(path: Path) -> int:
    try:
        return orientation(_header(path))
    except OSError:
        return UPRIGHT


def _turned(images: Iterable[CocoImage], folder: Path) -> list[str]:
    """A sentence on images that viewers turn and whose sizes do not show it."""
    turned = [
        image.file_name
        for image in images
        if (way := _orientation(folder / image.file_name)) != UPRIGHT
        and (way not in ON_ITS_SIDE or image.width == image.height)
    ]
    if not turned:
        return []
    return [
        f"{len(turned):,} images have an EXIF orientation that viewers follow and TensorFlow's "
        f"decoder ignores ({listed(turned)}); if they were annotated as viewers show them, their "
        f"boxes are in the wrong places"
    ]


def check_size(path: Path, size: tuple[int, int], image: CocoImage) -> None:
    """Raise where an image file is not of the size that it was annotated with.

    Args:
        path: The file.
        size: (height, width) as decoded.
        image: As the annotations have it.

    Raises:
        InputError: The sizes differ.
    """
    height, width = size
    if size == (image.height, image.width):
        return
    found = (
        f"{path} is {width}x{height} pixels, but the annotations are for "
        f"{image.width}x{image.height}"
    )
    way = _orientation(path)
    if size == (image.width, image.height) and way in ON_ITS_SIDE:
        raise InputError(
            f"{found}: its EXIF orientation ({way}) tells viewers to turn it upright, as it was "
            f"annotated, and TensorFlow's decoder ignores that; turn the pixels themselves, for "
            f"example with ImageMagick's mogrify -auto-orient on a copy of the images.",
            Cause.MODEL,
        )
    if size == (image.width, image.height):
        raise InputError(
            f"{found}, width and height exchanged; give the images as they were annotated, or "
            f"exchange the two where only the annotations have them the wrong way round.",
            Cause.MODEL,
        )
    raise InputError(f"{found}; give the images they belong to.", Cause.MODEL)
