"""Converted models on disk: ``.pth`` files that say what they hold and where it came from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efficientdet_spec import (
    Cause,
    EfficientDetConfig,
    Finding,
    InputError,
    first_difference,
    listed,
    printable,
    replacing,
    summary,
)
from torch_model.container import PickledError, TorchFile, open_torch_file
from torch_model.model import EfficientDet, build
from torch_model.pickled import StoredTensor

FORMAT = "efficientdet-parity"
BACKBONE_FORMAT = "efficientdet-parity-backbone"
"""Mark of a file with a backbone alone, which is otherwise like a model's; its ``config`` is that
of a detector with this backbone and with its name, and its keys are the backbone's own."""

FORMAT_VERSION = 2
"""Version 2 has digests; version 1, in files of releases up to 0.5, is read too."""

_BACKBONE = "backbone."
"""What the names of a backbone's parameters begin with in a detector."""

_KINDS = {
    FORMAT: "a whole detector",
    BACKBONE_FORMAT: "a backbone alone (no BiFPN, no heads)",
}
_INSTEAD = {
    FORMAT: "convert a detector's checkpoint, or start training from the backbone with "
    "efficientdet_parity.load_backbone",
    BACKBONE_FORMAT: "convert its checkpoint with --backbone",
}
"""What to do where a file of the other kind is given."""

_INSIDE = ("state_dict", "model_state_dict", "model")
"""Under which keys trainers keep a state dict in a file with more in it."""

_WRAPPERS = ("module.", "model.")
"""What a wrapper for several devices, and one for training, put before a model's keys."""


@dataclass(frozen=True)
class ModelCheckpoint:
    """The content of a converted ``.pth`` file.

    Attributes:
        config: What the model is.
        state_dict: Parameters and batch-norm statistics by name.
        provenance: Where the values came from: source, hashes, choices, versions.
    """

    config: EfficientDetConfig
    state_dict: Mapping[str, Tensor]
    provenance: Mapping[str, Any]


def save_checkpoint(
    path: str | os.PathLike[str], checkpoint: ModelCheckpoint, kind: str = FORMAT
) -> None:
    """Write ``checkpoint`` to ``path``; the file appears complete or not at all.

    Raises:
        InputError: The file cannot be written (no such folder, no right, disk full).
    """
    # Each with bytes of its own, row by row, so that a digest covers all that the file holds.
    state = {name: _row_major(value) for name, value in checkpoint.state_dict.items()}
    content = {
        "format": kind,
        "version": FORMAT_VERSION,
        "model": checkpoint.config.name,
        "config": checkpoint.config.to_dict(),
        "licence": checkpoint.provenance.get("licence"),
        "provenance": dict(checkpoint.provenance),
        "digests": {name: tensor_digest(value.numpy()) for name, value in state.items()},
    }
    _write(Path(path), {**content, "seal": _seal(content), "state_dict": state})


def _row_major(value: Tensor) -> Tensor:
    plain = value.detach().cpu().contiguous()
    whole = plain.untyped_storage().nbytes() == plain.numel() * plain.element_size()
    return plain if whole else plain.clone()


def tensor_digest(array: NDArray[Any]) -> str:
    """SHA-256 of a tensor: its type, its shape and its values row by row, little-endian.

    Args:
        array: The values.
    """
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.name} {list(array.shape)}\n".encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that a file says but its tensors, whose digests are part of it."""
    said = {name: value for name, value in content.items() if name not in ("state_dict", "seal")}
    try:
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"What a model file says of itself holds something that is no plain value "
            f"({printable(error)!s:.120}); keep texts, numbers, lists and dictionaries in the "
            f"provenance.",
            Cause.FORMAT,
        ) from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def save_state_dict(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a plain state dict, which says nothing of a model, for another code base to load.

    Args:
        path: The file to write.
        arrays: A writable array for each key of the code base.

    Raises:
        InputError: The file cannot be written.
    """
    _write(Path(path), _tensors(arrays))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Save a dictionary; the file appears complete or not at all."""
    try:
        with replacing(path) as temporary, open(temporary, "wb") as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as a RuntimeError; the OSError behind it says why.
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise InputError(
            f"{path} cannot be written ({reason}); nothing was left behind: choose a folder "
            f"that exists, is writable and has room.",
            Cause.of(error) if isinstance(error, OSError) else Cause.FILE,
        ) from error


def save_arrays(
    path: str | os.PathLike[str],
    config: EfficientDetConfig,
    arrays: Mapping[str, NDArray[Any]],
    provenance: Mapping[str, Any],
) -> None:
    """Write converted arrays as a checkpoint.

    Args:
        path: The file to write.
        config: The model.
        arrays: A writable array for each parameter; the file shares nothing with them.
        provenance: Where they came from, as plain values.

    Raises:
        InputError: The file cannot be written.
    """
    save_checkpoint(path, ModelCheckpoint(config, _tensors(arrays), provenance))


def save_backbone(
    path: str | os.PathLike[str],
    config: EfficientDetConfig,
    arrays: Mapping[str, NDArray[Any]],
    provenance: Mapping[str, Any],
) -> None:
    """Write the arrays of a backbone alone, for :func:`load_backbone`.

    Args:
        path: The file to write.
        config: Of a detector with this backbone.
        arrays: A writable array for each parameter, by its name in the detector.
        provenance: Where they came from, as plain values.

    Raises:
        InputError: The file cannot be written.
    """
    own = {name.removeprefix(_BACKBONE): array for name, array in arrays.items()}
    save_checkpoint(path, ModelCheckpoint(config, _tensors(own), provenance), BACKBONE_FORMAT)


def from_arrays(
    config: EfficientDetConfig, arrays: Mapping[str, NDArray[Any]], source: str
) -> EfficientDet:
    """A model in evaluation mode with these parameters, as :func:`from_state_dict`."""
    return from_state_dict(config, _tensors(arrays), source)


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def plain_keys(path: str | os.PathLike[str]) -> list[str]:
    """The keys of a plain state dict, as other code bases write it; no tensor is read.

    Trainers put it into a dictionary with more in it, and wrappers of a model put the name of
    their attribute before every key; neither belongs to the model.

    Args:
        path: A PyTorch file.

    Returns:
        Keys of tensors; none where the file holds no state dict. Of a file that only code could
        load, every text that may be one.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        with open_torch_file(Path(path)) as file:
            content = file.content
    except PickledError as error:
        return [_unwrapped(text) for text in sorted(error.texts)]
    if not isinstance(content, dict):
        return []
    for state in (content, *(content.get(name) for name in _INSIDE)):
        if isinstance(state, dict):
            keys = [str(key) for key, value in state.items() if isinstance(value, StoredTensor)]
            for wrapper in _WRAPPERS:
                if keys and all(key.startswith(wrapper) for key in keys):
                    keys = [key.removeprefix(wrapper) for key in keys]
            if keys:
                return keys
    return []


def _unwrapped(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.removeprefix(wrapper)
    return key


def load_checkpoint(path: str | os.PathLike[str]) -> ModelCheckpoint:
    """Read a converted ``.pth`` file without executing anything in it, and verify all of it.

    Raises:
        InputError: The file is missing, is no such file, holds more than plain tensors, is not as
            it was written, or its tensors are not its model's.
    """
    return _load(Path(path), FORMAT)


def load_backbone(model: EfficientDet, path: str | os.PathLike[str]) -> None:
    """Fill a detector's backbone from a file of :func:`save_backbone`; nothing else changes.

    Args:
        model: The detector, whose provenance gets the backbone's as ``backbone``.
        path: The file.

    Raises:
        InputError: It cannot be read as of :func:`load_checkpoint`, or is of another backbone.
    """
    found = _load(Path(path), BACKBONE_FORMAT)
    if found.config.backbone != model.config.backbone:
        raise InputError(
            f"{path} holds the backbone {found.config.backbone.name}, but {model.config.name} has "
            f"{model.config.backbone.name}"
            f"{' of other stages' * (found.config.backbone_name == model.config.backbone_name)}; "
            f"give files of one backbone.",
            Cause.MODEL,
        )
    model.backbone.load_state_dict(dict(found.state_dict), strict=True)
    model.provenance = {**model.provenance, "backbone": dict(found.provenance)}


def _load(path: Path, kind: str) -> ModelCheckpoint:
    """The content of a file of one of the two kinds, verified."""
    with open_torch_file(path) as file:
        said = _said(path, _ours(file, kind))
        # Before any memory is taken for what a file claims.
        kinds = {name: _stored_kind(value) for name, value in said.stored.items()}
        _check_fit(said.config, kinds, str(path), kind)
        state_dict = {
            name: _verified(file, name, stored, said.digests)
            for name, stored in said.stored.items()
        }
    return ModelCheckpoint(said.config, state_dict, said.provenance)


@dataclass(frozen=True)
class _Said:
    """What a file says of itself, checked but for the tensors' values.

    Attributes:
        config: What the model is.
        stored: Where each tensor is.
        digests: Of each tensor; None in a file of version 1.
        provenance: Where the values came from.
    """

    config: EfficientDetConfig
    stored: Mapping[str, StoredTensor]
    digests: Mapping[str, str] | None
    provenance: Mapping[str, Any]


def _said(path: Path, content: Mapping[str, Any]) -> _Said:
    """The parts of a file's content.

    Raises:
        InputError: One is missing, something else than it should be, or not as it was written.
    """
    try:
        config = EfficientDetConfig.from_dict(content["config"])
        stored, provenance = content["state_dict"], dict(content["provenance"])
        digests = content["digests"] if _has_digests(content) else None
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} lacks or garbles a part of it ({error}); convert the checkpoint again.",
            Cause.FORMAT,
        ) from error
    if digests is not None and not (isinstance(digests, dict) and _is_sealed(content)):
        raise _altered(path, "what it says of itself does not have its digest")
    if not isinstance(stored, dict) or not all(
        isinstance(name, str) and isinstance(value, StoredTensor) for name, value in stored.items()
    ):
        raise InputError(
            f"{path}: state_dict is no mapping of names to tensors; convert again.", Cause.FORMAT
        )
    if any(value.storage.count != math.prod(value.shape) for value in stored.values()):
        raise _altered(path, "a tensor shares its values with others, or has more than its own")
    return _Said(config, stored, digests, provenance)


def _ours(file: TorchFile, kind: str) -> dict[str, Any]:
    """The content of a file that says that it is of this format."""
    path, content = file.path, file.content
    mark = content.get("format") if isinstance(content, dict) else None
    if isinstance(mark, str) and mark in _KINDS and mark != kind:
        raise InputError(
            f"{path} holds {_KINDS[mark]}, expected {_KINDS[kind]}; {_INSTEAD[kind]}.",
            Cause.MODEL,
        )
    if not isinstance(content, dict) or mark != kind or not file.is_archive:
        raise InputError(
            f"{path} is a PyTorch file{_of_what(content)}, but not one that convert.py wrote "
            f"(no format mark {kind!r}); convert the TensorFlow checkpoint with convert.py, or "
            f"give a model of your own as FILE.py:FUNCTION.",
            Cause.FORMAT,
        )
    version = content.get("version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        found = "tensor" if isinstance(version, StoredTensor) else printable(f"{version!r:.40}")
        raise InputError(
            f"{path} has format version {found}, but this program reads up to "
            f"{FORMAT_VERSION}; convert the checkpoint again or update the program.",
            Cause.FORMAT,
        )
    return content


def _of_what(content: Any) -> str:
    """What a dictionary of somebody else's holds, to follow what it is."""
    if not isinstance(content, dict) or not content:
        return ""
    if all(isinstance(value, StoredTensor) for value in content.values()):
        return f" of {len(content):,} tensors ({listed(content, 3)})"
    return f" with {listed(content, 6, 40)}"


def _has_digests(content: Mapping[str, Any]) -> bool:
    """Whether a file is of a version with digests, or is only said to be of one without."""
    return content["version"] > 1 or not {"digests", "seal"}.isdisjoint(content)


def _is_sealed(content: Mapping[str, Any]) -> bool:
    try:
        return bool(content.get("seal") == _seal(content))
    except InputError:
        return False


def _verified(
    file: TorchFile, name: str, stored: StoredTensor, digests: Mapping[str, str] | None
) -> Tensor:
    """A tensor whose values have the digest that they were written with."""
    array = file.read(stored)
    if digests is not None and digests.get(name) != tensor_digest(array):
        raise _altered(file.path, f"the values of {printable(name)!s:.100} do not have theirs")
    return torch.from_numpy(array)


def _altered(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is not as it was written: {found}; copy the file again, convert the checkpoint "
        f"again, or save a model that was changed with efficientdet_parity.save.",
        Cause.FORMAT,
    )


def load(path: str | os.PathLike[str]) -> EfficientDet:
    """The converted model in evaluation mode, on the CPU.

    Raises:
        InputError: The file cannot be read, or its tensors are not this model's.
    """
    checkpoint = load_checkpoint(path)
    model = _taking(checkpoint.config, checkpoint.state_dict)
    model.provenance = dict(checkpoint.provenance)
    return model


def load_same(path: str | os.PathLike[str], config: EfficientDetConfig) -> EfficientDet:
    """As :func:`load`, of a file that must be of a certain model.

    Args:
        path: The file.
        config: The checkpoint's model.

    Raises:
        InputError: It cannot be read, or is of another model.
    """
    model = load(path)
    found = first_difference(model.config, config)
    if found is not None:
        raise InputError(
            f"{path} holds {model.config.name} with {found.key} {found.ours}, but the checkpoint "
            f"is {config.name} with {found.key} {found.theirs}; give files of one model.",
            Cause.MODEL,
        )
    return model


def _kind(tensor: Tensor) -> str:
    """Type and shape for comparison and messages; a sparse tensor is of another kind too."""
    layout = "" if tensor.layout is torch.strided else f"{tensor.layout} "
    return f"{layout}{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _stored_kind(tensor: StoredTensor) -> str:
    return f"{tensor.storage.type} {list(tensor.shape)}"


def _bare(config: EfficientDetConfig) -> EfficientDet:
    """The model without memory for its values."""
    with torch.device("meta"):
        return EfficientDet(config)


def _check_fit(
    config: EfficientDetConfig, kinds: Mapping[str, str], source: str, kind: str = FORMAT
) -> None:
    """Raise where tensors are not those of a model.

    Args:
        config: The model.
        kinds: Type and shape of each tensor.
        source: Where they came from, for messages.
        kind: Of the file: a model's, or a backbone's.

    Raises:
        InputError: A tensor is missing, unknown or of another type or shape.
    """
    model = _bare(config)
    whole = model if kind == FORMAT else model.backbone
    expected = {name: _kind(value) for name, value in whole.state_dict().items()}
    found = {name for name in kinds if not name.endswith("num_batches_tracked")}
    wanted = {name for name in expected if not name.endswith("num_batches_tracked")}
    findings = [Finding(name, "missing", f"{name} is missing") for name in sorted(wanted - found)]
    findings += [
        Finding(name, "unknown", f"{printable(name)} is unknown")
        for name in sorted(kinds.keys() - expected.keys())
    ]
    for name in sorted(kinds.keys() & expected.keys()):
        if kinds[name] != expected[name]:
            detail = f"{kinds[name]}, not {expected[name]}"
            findings.append(Finding(name, "of another kind", f"{name} is {detail}", detail))
    if findings:
        raise InputError(
            f"{source} does not fit {config.name}: {summary(findings)}. Give the values of a whole "
            f"model of this size and number of classes, or convert its checkpoint again.",
            Cause.MODEL,
        )


def from_state_dict(
    config: EfficientDetConfig, state_dict: Mapping[str, Tensor], source: str
) -> EfficientDet:
    """A model in evaluation mode with these parameters, every one of them filled.

    Args:
        config: What the model is.
        state_dict: Parameters and statistics by name, which are copied.
        source: Where they came from, for messages.

    Raises:
        InputError: A tensor is missing, unknown or of another type or shape.
    """
    _check_fit(config, {name: _kind(value) for name, value in state_dict.items()}, source)
    model = build(config)
    # A plain dict carries no version, so batch norms may lack their unused batch counter.
    model.load_state_dict(dict(state_dict), strict=True)
    return model


def _taking(config: EfficientDetConfig, state_dict: Mapping[str, Tensor]) -> EfficientDet:
    """As :func:`from_state_dict` of tensors that fit and that nobody else has; none is copied."""
    model = _bare(config)
    model.load_state_dict(dict(state_dict), strict=True, assign=True)
    return model.to(memory_format=torch.channels_last).eval()
