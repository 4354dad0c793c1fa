"""What a file of a converted model says, and whether it is as it was written; NumPy only.

A model's values stand in a ``.pth`` or in a ``.safetensors`` file. Both have a digest of every
tensor, and a seal: a digest of all that the file says besides, the tensors' digests included. So
what was changed in any part of it is found, whatever the container itself verifies.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import (
    Cause,
    EfficientDetConfig,
    InputError,
    listed,
    printable,
    shortened,
)
from torch_model.container import TorchFile, is_torch_file, open_torch_file
from torch_model.pickled import StoredTensor
from torch_model.safetensors import (
    BFLOAT16,
    DTYPES,
    SafetensorsFile,
    is_safetensors,
    write_safetensors,
)

FORMAT = "efficientdet-parity"
BACKBONE_FORMAT = "efficientdet-parity-backbone"
"""Mark of a file with a backbone alone, which is otherwise like a model's; its ``config`` is that
of a detector with this backbone and with its name, and its keys are the backbone's own."""

FORMAT_VERSION = 2
"""Of a ``.pth`` with one value of each parameter. Version 2 has digests; version 1, in files of
releases up to 0.5, is read too."""

RAW_VERSION = 3
"""Of a ``.pth`` that holds raw values beside the moving averages, which programs that know only
version 2 refuse."""

SAFETENSORS = ".safetensors"
"""How the name of a file of that format ends."""

SAFETENSORS_VERSION = "1"
"""Of a ``.safetensors``."""

RAW_PREFIX = "raw/"
"""What stands before the name of a raw value in a ``.safetensors`` that has both. No name of
PyTorch's has a slash, so that the two cannot be mixed up, and whoever loads the file as one state
dict is told of keys that the model does not have."""

EMA, RAW, MODEL = "ema", "raw", "model"
"""Which value of a parameter one is: the moving average, the raw value, or that this is unknown."""

KINDS = {
    FORMAT: "a whole detector",
    BACKBONE_FORMAT: "a backbone alone (no BiFPN, no heads)",
}
_INSTEAD = {
    FORMAT: "convert a detector's checkpoint, or start training from the backbone with "
    "efficientdet_parity.load_backbone",
    BACKBONE_FORMAT: "convert its checkpoint with --backbone",
}
"""What to do where a file of the other kind is given."""

_TENSORS = ("state_dict", "raw_state_dict")
"""Where the tensors of a ``.pth`` are; all else is sealed."""

_SEAL = "seal"


def tensor_digest(array: NDArray[Any]) -> str:
    """SHA-256 of a tensor: its type, its shape and its values row by row, little-endian.

    Args:
        array: The values.
    """
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.name} {list(array.shape)}\n".encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def seal_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that a file says but its tensors, whose digests are part of it.

    Args:
        content: What it says, with its tensors or without.

    Raises:
        InputError: Something is no plain value.
    """
    said = {name: value for name, value in content.items() if name not in (*_TENSORS, _SEAL)}
    return hashlib.sha256(_plain_json(said).encode("utf-8", "surrogatepass")).hexdigest()


def _plain_json(value: Any) -> str:
    """Plain values in one form that there is of them.

    Raises:
        InputError: They are none.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"What a model file says of itself holds something that is no plain value "
            f"({printable(error)!s:.120}); keep texts, numbers, lists and dictionaries in the "
            f"provenance.",
            Cause.FORMAT,
        ) from error


def value_of(provenance: Mapping[str, Any]) -> str:
    """Which value of each parameter a file with one of each holds.

    Args:
        provenance: What it says of where its values came from.

    Returns:
        ``ema``, also where only most of the parameters had an average; ``raw``, also where
        averages were asked for and the checkpoint had none; ``model`` where it is not said, as of
        a model that nobody has converted, or one of a container with one value of each variable.
    """
    asked, counts = provenance.get("weights"), provenance.get("variables")
    if asked == RAW:
        return RAW
    if asked not in (EMA, "both"):
        return MODEL
    # Averages were preferred; what there was of each variable is what was taken.
    taken = counts if isinstance(counts, Mapping) else {}
    if taken.get(EMA) or not (taken.get(RAW) or taken.get("only")):
        return EMA
    return RAW if taken.get(RAW) else MODEL


@dataclass(frozen=True)
class Described:
    """A tensor as a model file describes it.

    Attributes:
        type: NumPy's name of the elements' type.
        shape: Extents.
    """

    type: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.type} {list(self.shape)}"


class ModelFile(ABC):
    """A file of this project, open; all that it says has been verified but the tensors' values.

    Attributes:
        path: The file.
        config: What the model is.
        provenance: Where the values came from: source, hashes, choices, versions.
        parts: The tensors' descriptions by name: of ``ema`` and ``raw`` where it has both, or
            else of the one that :func:`value_of` tells.
        checked: What has been verified once every value was read.
    """

    path: Path
    config: EfficientDetConfig
    provenance: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Described]]
    checked: str

    @property
    def main(self) -> str:
        """The part that is the model: the averages, or the only one."""
        return EMA if EMA in self.parts else next(iter(self.parts))

    @abstractmethod
    def read(self, part: str, name: str) -> NDArray[Any]:
        """A tensor's values, in an array of their own, which have their digest.

        Args:
            part: One of ``parts``.
            name: One of the tensors there.

        Raises:
            InputError: They are damaged or were changed.
        """


def open_model_file(path: Path, kind: str = FORMAT) -> ModelFile:
    """Open a ``.pth`` or ``.safetensors`` of this project, whichever it is by its content.

    There is nothing to close.

    Args:
        path: The file.
        kind: ``FORMAT``, or ``BACKBONE_FORMAT`` for a backbone's.

    Raises:
        InputError: It cannot be read, is no such file, is of another kind, or is not as it was
            written.
    """
    if is_safetensors(path) or (path.suffix == SAFETENSORS and not is_torch_file(path)):
        return SafetensorsModel(SafetensorsFile(path), kind)
    return TorchModel(open_torch_file(path), kind)


class TorchModel(ModelFile):
    """A ``.pth`` of this project.

    Args:
        file: The file.
        kind: As of :func:`open_model_file`.

    Raises:
        InputError: It is none, of another kind, or not as it was written.
    """

    checked = "every CRC-32 and every SHA-256 verified"

    def __init__(self, file: TorchFile, kind: str = FORMAT) -> None:
        self.path = file.path
        self._file = file
        content = _ours(file, kind)
        self.config, self.provenance = _told(file.path, content)
        tensors = [content.get("state_dict"), content.get("raw_state_dict")]
        digests = [content.get("digests"), content.get("raw_digests")]
        self._check_parts(content, tensors, digests)
        named = (EMA, RAW) if tensors[1] is not None else (value_of(self.provenance),)
        self._stored = dict(zip(named, tensors, strict=False))
        self._digests = dict(zip(named, digests, strict=False))
        self.parts = {
            part: {name: Described(value.storage.type, value.shape) for name, value in of.items()}
            for part, of in self._stored.items()
        }

    def _check_parts(
        self, content: Mapping[str, Any], tensors: list[Any], digests: list[Any]
    ) -> None:
        """Refuse a file without what its version has, with more, or of other digests."""
        path, version = self.path, content["version"]
        # It may only be said to be of a version without.
        has_digests = version > 1 or not {"digests", _SEAL}.isdisjoint(content)
        if has_digests:
            if digests[0] is None or (version == RAW_VERSION and digests[1] is None):
                name = "raw_digests" if digests[0] is not None else "digests"
                raise _garbled(path, repr(name))
            if not all(isinstance(one, dict | None) for one in digests) or not _is_sealed(content):
                raise altered(path, "what it says of itself does not have its digest")
        if (version == RAW_VERSION) is (tensors[1] is None):
            raise altered(path, f"raw values do not belong into version {version}, or are missing")
        for name, stored in zip(_TENSORS, tensors, strict=True):
            if stored is not None or name == "state_dict":
                _check_stored(path, name, stored)

    def read(self, part: str, name: str) -> NDArray[Any]:
        """See :class:`ModelFile`."""
        array = self._file.read(self._stored[part][name])
        digests = self._digests[part]
        if digests is not None:
            _require_digest(self.path, name, array, digests)
        return array


def described(
    kind: str,
    config: EfficientDetConfig,
    provenance: Mapping[str, Any],
    digests: Mapping[str, str],
    raw_digests: Mapping[str, str] | None,
) -> dict[str, Any]:
    """All that a ``.pth`` says but its tensors, with its seal.

    Args:
        kind: ``FORMAT`` or ``BACKBONE_FORMAT``.
        config: What the model is.
        provenance: Where its values came from, as plain values.
        digests: Of each tensor.
        raw_digests: Of each raw value beside the averages; None where there are none.

    Raises:
        InputError: Something is no plain value.
    """
    content = {
        "format": kind,
        "version": FORMAT_VERSION if raw_digests is None else RAW_VERSION,
        "model": config.name,
        "config": config.to_dict(),
        "licence": provenance.get("licence"),
        "provenance": dict(provenance),
        "digests": dict(digests),
        **({} if raw_digests is None else {"raw_digests": dict(raw_digests)}),
    }
    return {**content, _SEAL: seal_of(content)}


def _ours(file: TorchFile, kind: str) -> dict[str, Any]:
    """The content of a file that says that it is of this format."""
    path, content = file.path, file.content
    mark = content.get("format") if isinstance(content, dict) else None
    _require_kind(path, mark, kind)
    if not isinstance(content, dict) or mark != kind or not file.is_archive:
        raise InputError(
            f"{path} is a PyTorch file{_of_what(content)}, but not one that convert.py wrote "
            f"(no format mark {kind!r}); convert the TensorFlow checkpoint with convert.py, or "
            f"give a model of your own as FILE.py:FUNCTION.",
            Cause.FORMAT,
        )
    version = content.get("version")
    if type(version) is not int or not 1 <= version <= RAW_VERSION:
        found = "tensor" if isinstance(version, StoredTensor) else printable(f"{version!r:.40}")
        raise _newer(path, found, str(RAW_VERSION))
    return content


def _require_kind(path: Path, mark: Any, kind: str) -> None:
    """Refuse a file of this project's other kind."""
    if isinstance(mark, str) and mark in KINDS and mark != kind:
        raise InputError(
            f"{path} holds {KINDS[mark]}, expected {KINDS[kind]}; {_INSTEAD[kind]}.",
            Cause.MODEL,
        )


def _newer(path: Path, found: str, known: str) -> InputError:
    return InputError(
        f"{path} has format version {found}, but this program reads up to {known}; convert the "
        f"checkpoint again or update the program.",
        Cause.FORMAT,
    )


def _of_what(content: Any) -> str:
    """What a dictionary of somebody else's holds, to follow what it is."""
    if not isinstance(content, dict) or not content:
        return ""
    if all(isinstance(value, StoredTensor) for value in content.values()):
        return f" of {len(content):,} tensors ({listed(content, 3)})"
    return f" with {listed(content, 6, 40)}"


def _told(path: Path, content: Mapping[str, Any]) -> tuple[EfficientDetConfig, dict[str, Any]]:
    """The model, and where its values came from."""
    try:
        return EfficientDetConfig.from_dict(content["config"]), dict(content["provenance"])
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        raise _garbled(path, error) from error


def _garbled(path: Path, what: object) -> InputError:
    return InputError(
        f"{path} lacks or garbles a part of it ({what}); convert the checkpoint again.",
        Cause.FORMAT,
    )


def _is_sealed(content: Mapping[str, Any]) -> bool:
    try:
        return bool(content.get(_SEAL) == seal_of(content))
    except InputError:
        return False


def _check_stored(path: Path, name: str, stored: Any) -> None:
    """Refuse what is no mapping of names to tensors, each with values of its own."""
    if not isinstance(stored, dict) or not all(
        isinstance(key, str) and isinstance(value, StoredTensor) for key, value in stored.items()
    ):
        raise InputError(
            f"{path}: {name} is no mapping of names to tensors; convert again.", Cause.FORMAT
        )
    if any(value.storage.count != math.prod(value.shape) for value in stored.values()):
        raise altered(path, "a tensor shares its values with others, or has more than its own")


def _require_digest(path: Path, name: str, array: NDArray[Any], digests: Mapping[str, str]) -> None:
    if digests.get(name) != tensor_digest(array):
        raise altered(path, f"the values of {printable(name)!s:.100} do not have theirs")


def altered(path: Path, found: str) -> InputError:
    """The error of a file that is not as it was written.

    Args:
        path: The file.
        found: In what, as a clause.
    """
    return InputError(
        f"{path} is not as it was written: {found}; copy the file again, convert the checkpoint "
        f"again, or save a model that was changed with efficientdet_parity.save.",
        Cause.FORMAT,
    )


def is_own(file: SafetensorsFile) -> bool:
    """Whether a safetensors file says that it is of this project, in either of two ways.

    So no flipped bit makes it somebody else's, of which nothing is verified.

    Args:
        file: The file.
    """
    return file.metadata.get("kind") == FORMAT or {"digests", _SEAL} <= file.metadata.keys()


class SafetensorsModel(ModelFile):
    """A ``.safetensors`` of this project.

    Args:
        file: The file.
        kind: As of :func:`open_model_file`.

    Raises:
        InputError: It is none, of another kind, or not as it was written.
    """

    checked = "every SHA-256 verified"

    def __init__(self, file: SafetensorsFile, kind: str = FORMAT) -> None:
        self.path = file.path
        self._file = file
        said = file.metadata
        if not is_own(file):
            raise InputError(
                f"{file.path} is a safetensors file of {len(file.tensors):,} tensors "
                f"({listed(file.tensors, 3)}), but not one that convert.py wrote; convert it, or "
                f"give the checkpoint that it is from.",
                Cause.FORMAT,
            )
        if not _is_sealed(said):
            raise altered(file.path, "what it says of itself does not have its digest")
        if said.get("version") != SAFETENSORS_VERSION:
            found = shortened(printable(said.get("version")), 40)
            raise _newer(file.path, found, SAFETENSORS_VERSION)
        if said.get("kind") != FORMAT:
            found = shortened(printable(said.get("kind")), 60)
            raise altered(file.path, f"its kind is {found}, expected {FORMAT}")
        _require_kind(file.path, FORMAT, kind)
        plain = {name: _from_json(file.path, said, name) for name in _JSON}
        self.config, self.provenance = _told(file.path, plain)
        self._digests = plain["digests"]
        self.parts = self._parted(said.get("weights"))

    def _parted(self, weights: str | None) -> dict[str, dict[str, Described]]:
        """The tensors by the value that they are."""
        path, tensors = self.path, self._file.tensors
        if not isinstance(self._digests, dict) or self._digests.keys() != tensors.keys():
            raise altered(path, "its tensors are not those that have digests")
        both = weights == "both"
        if not both and weights not in (EMA, RAW, MODEL):
            raise _garbled(path, "weights")
        raw = {name for name in tensors if name.startswith(RAW_PREFIX)}
        if both is not bool(raw):
            raise altered(path, "raw values are missing, or are there though it says otherwise")
        named = {EMA if both else str(weights): tensors.keys() - raw}
        if both:
            named[RAW] = raw
        return {
            part: {
                name.removeprefix(RAW_PREFIX): Described(NUMPY_NAMES[item.type], item.shape)
                for name, item in tensors.items()
                if name in names
            }
            for part, names in named.items()
        }

    def read(self, part: str, name: str) -> NDArray[Any]:
        """See :class:`ModelFile`."""
        raw = part == RAW and EMA in self.parts
        stored = f"{RAW_PREFIX}{name}" if raw else name
        array = self._file.read(stored)
        _require_digest(self.path, stored, array, self._digests)
        return array


_JSON = ("config", "provenance", "digests")
"""Names in the metadata whose texts are JSON."""

NUMPY_NAMES: Mapping[str, str] = MappingProxyType(
    {kind: "bfloat16" if kind == BFLOAT16 else dtype.name for kind, dtype in DTYPES.items()}
)
"""NumPy's names of the format's types."""


def _from_json(path: Path, said: Mapping[str, str], name: str) -> Any:
    """A part of the metadata that is JSON in a text."""
    try:
        return json.loads(said[name])
    except (LookupError, ValueError, RecursionError) as error:
        raise _garbled(path, name) from error


def save_as_safetensors(
    path: Path,
    config: EfficientDetConfig,
    arrays: Mapping[str, NDArray[Any]],
    provenance: Mapping[str, Any],
    raw: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write a model as a ``.safetensors``; it appears complete or not at all.

    Args:
        path: The file.
        config: The model.
        arrays: The values that are the model, by parameter.
        provenance: Where they came from, as plain values.
        raw: The raw values beside the averages, likewise; None where there are none.

    Raises:
        InputError: The file cannot be written, or the provenance holds what is no plain value.
    """
    tensors = {**arrays, **{f"{RAW_PREFIX}{name}": array for name, array in (raw or {}).items()}}
    licence = provenance.get("licence")
    said = {
        # What programs of the Hugging Face hub look for: tensors laid out as PyTorch's.
        "format": "pt",
        "kind": FORMAT,
        "version": SAFETENSORS_VERSION,
        "model": config.name,
        "config": _plain_json(config.to_dict()),
        "provenance": _plain_json(dict(provenance)),
        "weights": value_of(provenance) if raw is None else "both",
        "digests": _plain_json({name: tensor_digest(array) for name, array in tensors.items()}),
        **({} if licence is None else {"licence": str(licence)}),
    }
    write_safetensors(path, tensors.items(), {**said, _SEAL: seal_of(said)})
