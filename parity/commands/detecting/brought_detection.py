"""A side that brings its detections along: another program's file, or a function that detects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from efficientdet_spec import Cause, InputError, file_sha256
from parity.commands.detecting.detection import Detection, Stopwatch
from parity.commands.detecting.detectors import Detecting
from parity.detections.annotations import Annotations
from parity.detections.brought import FORMAT, FUNCTION, read_results, rows_of_call
from parity.detections.messages import SideName
from parity.detections.rows import Rows
from parity.detections.shards import Prepared
from parity.settings.coco import CANDIDATE
from parity.sides.naming import split_candidate


def check_brought(text: str) -> None:
    """Refuse what cannot bring detections, before anything is read or computed.

    Args:
        text: As of ``--detections``.

    Raises:
        InputError: There is no such file or function.
    """
    name = split_candidate(text)
    path = name.file
    if path is None or not path.is_file():
        raise InputError(
            f"--detections {text:.200} is no file; give a JSON file, {FORMAT}, or "
            f"FILE.py:FUNCTION, where {FUNCTION}.",
            Cause.FILE,
        )
    if name.maker is not None:
        from parity.sides.pytorch.code import check_function

        check_function(path, name.maker)
    elif path.suffix == ".py":
        raise InputError(
            f"{path} is a Python file, but it is not said which of its functions detects; write it "
            f"as in {path}:detect, where {FUNCTION}.",
            Cause.OPTION,
        )


def brought(text: str, folder: Path, annotations: Annotations, known: Sequence[int]) -> Detecting:
    """The side that ``--detections`` names.

    Args:
        text: As of ``--detections``.
        folder: Of the images.
        annotations: Of the images wanted.
        known: Ids of all images of the annotation file.

    Raises:
        InputError: The file holds something else.
    """
    name = split_candidate(text)
    assert name.file is not None
    if name.maker is not None:
        return FunctionDetecting(text)
    rows = read_results(name.file, annotations, known)
    sizes = {
        folder / image.file_name: (image.height, image.width, rows[image.id])
        for image in annotations.images
    }
    return FileDetecting(name.file, sizes)


class FileDetecting:
    """A file of results; see :class:`parity.commands.detecting.detectors.Detecting`.

    Args:
        path: The file.
        images: By path, height and width in pixels, and the detections.

    Attributes:
        described: What results call it.
    """

    name = CANDIDATE

    def __init__(self, path: Path, images: Mapping[Path, tuple[int, int, Rows]]) -> None:
        self._path, self._images = path, images
        self.described = str(path)

    def files(self) -> Sequence[Path]:
        """The file."""
        return [self._path]

    def manifest(self, setup: Detection) -> Mapping[str, Any]:
        """What the file holds."""
        return {"framework": self.name, "detections": file_sha256(self._path)}

    def open(self, setup: Detection) -> AbstractContextManager[_FileSide]:
        """Its detections, image by image."""
        return _opened(_FileSide(self._images))

    def notes(self) -> Sequence[str]:
        """Nothing: a file tells nothing of how it was made."""
        return ()

    def elsewhere(self) -> None:
        """None: what it holds is here already."""


@contextmanager
def _opened(side: Any) -> Iterator[Any]:
    yield side


class _FileSide:
    """Detections that are there already."""

    def __init__(self, images: Mapping[Path, tuple[int, int, Rows]]) -> None:
        self._images = images
        self.seconds: dict[str, float] = {}

    def prepare(self, path: Path) -> Prepared:
        height, width, rows = self._images[path]
        return Prepared(height, width, rows)

    def detect(self, images: Sequence[Prepared]) -> list[Rows]:
        return [item.value for item in images]


class FunctionDetecting:
    """A function that detects; see :class:`parity.commands.detecting.detectors.Detecting`.

    Args:
        text: FILE.py:FUNCTION.

    Attributes:
        described: What results call it.
    """

    name = CANDIDATE

    def __init__(self, text: str) -> None:
        name = split_candidate(text)
        assert name.file is not None and name.maker is not None
        self._path, self._function = name.file, name.maker
        self.described = text

    def files(self) -> Sequence[Path]:
        """The file that the function stands in."""
        return [self._path]

    def manifest(self, setup: Detection) -> Mapping[str, Any]:
        """The file's content; what it reads or imports is not known."""
        return {
            "framework": self.name,
            "detections": file_sha256(self._path),
            "function": self._function,
            "batch": setup.batch,
        }

    def open(self, setup: Detection) -> AbstractContextManager[_FunctionSide]:
        """The function, which is imported here."""
        return _opened(_FunctionSide(self._path, self._function))

    def notes(self) -> Sequence[str]:
        """What its kept detections do not depend on."""
        return (
            f"{self.described}: detections that are kept are known by this file's content, not by "
            f"what it reads or imports; delete the folder of results when that has changed",
        )

    def elsewhere(self) -> SideName:
        """The function by its file's absolute path."""
        return SideName(kind="function", text=f"{self._path.absolute()}:{self._function}")


class _FunctionSide:
    """Detection by a user's function."""

    def __init__(self, path: Path, function: str) -> None:
        from parity.sides.pytorch.code import find_function

        self._source = f"{path}:{function}"
        self._detect = find_function(path, function)
        self._watch = Stopwatch()
        self.seconds = self._watch.seconds

    def prepare(self, path: Path) -> Prepared:
        from torch_model.decode import read_image

        # Only for its size: the function decodes it in its own way.
        height, width = read_image(path).shape[:2]
        return Prepared(height, width, path)

    def detect(self, images: Sequence[Prepared]) -> list[Rows]:
        from parity.sides.pytorch.code import failure

        self._watch.start()
        try:
            found = self._detect([str(item.value) for item in images])
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise InputError(
                f"{self._source} fails with {failure(error)}; {FUNCTION}.", Cause.CANDIDATE
            ) from error
        self._watch.lap("pipeline")
        return rows_of_call(found, len(images), self._source, _plain)


def _plain(value: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    # NumPy has no type for some of PyTorch's, and float32 holds them all.
    short = value.is_floating_point() and value.dtype not in (torch.float32, torch.float64)
    return (value.float() if short else value).resolve_conj().resolve_neg().numpy()
