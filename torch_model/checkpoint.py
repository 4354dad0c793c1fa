"""Converted models on disk: files that say what they hold and where it came from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from efficientdet_spec import (
    Cause,
    EfficientDetConfig,
    Finding,
    InputError,
    first_difference,
    printable,
    summary,
)
from torch_model.container import PickledError, open_torch_file
from torch_model.model import EfficientDet, build
from torch_model.model_file import (
    BACKBONE_FORMAT,
    EMA,
    FORMAT,
    RAW,
    ModelFile,
    open_model_file,
    save_as_safetensors,
)
from torch_model.pickled import StoredTensor
from torch_model.safetensors import SafetensorsFile, is_safetensors
from torch_model.saving import save_arrays

_INSIDE = ("state_dict", "model_state_dict", "model")
"""Under which keys trainers keep a state dict in a file with more in it."""

_WRAPPERS = ("module.", "model.")
"""What a wrapper for several devices, and one for training, put before a model's keys."""


@dataclass(frozen=True)
class ModelCheckpoint:
    """The content of a converted model's file.

    Attributes:
        config: What the model is.
        state_dict: Parameters and batch-norm statistics by name: the values that are the model,
            which are the moving averages where the file has both.
        provenance: Where the values came from: source, hashes, choices, versions.
        raw: The raw values beside the moving averages, by the same names; None where the file
            has one value of each parameter.
    """

    config: EfficientDetConfig
    state_dict: Mapping[str, Tensor]
    provenance: Mapping[str, Any]
    raw: Mapping[str, Tensor] | None = None


def save_checkpoint(path: str | os.PathLike[str], checkpoint: ModelCheckpoint) -> None:
    """Write ``checkpoint`` to ``path`` as a ``.pth``; the file appears complete or not at all.

    Args:
        path: The file.
        checkpoint: The model.

    Raises:
        InputError: As of :func:`~torch_model.saving.save_arrays`.
    """
    state, raw = _arrays_of(checkpoint)
    save_arrays(path, checkpoint.config, state, checkpoint.provenance, raw)


def save_safetensors(path: str | os.PathLike[str], checkpoint: ModelCheckpoint) -> None:
    """Write ``checkpoint`` to ``path`` as a safetensors file, completely or not at all.

    Args:
        path: The file.
        checkpoint: The model.

    Raises:
        InputError: As of :func:`save_checkpoint`.
    """
    state, raw = _arrays_of(checkpoint)
    save_as_safetensors(Path(path), checkpoint.config, state, checkpoint.provenance, raw)


def _arrays_of(
    checkpoint: ModelCheckpoint,
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]] | None]:
    """The values and the raw ones, which share memory with their tensors where these have any."""
    state, raw = checkpoint.state_dict, checkpoint.raw
    return _to_arrays(state), None if raw is None else _to_arrays(raw)


def _to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


def from_arrays(
    config: EfficientDetConfig, arrays: Mapping[str, NDArray[Any]], source: str
) -> EfficientDet:
    """A model in evaluation mode with these parameters, as :func:`from_state_dict`."""
    return from_state_dict(config, _tensors(arrays), source)


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def plain_keys(path: str | os.PathLike[str]) -> list[str]:
    """The keys of a plain state dict, as other code bases write it; no value is read.

    Trainers put it into a dictionary with more in it, and wrappers of a model put the name of
    their attribute before every key; neither belongs to the model.

    Args:
        path: A PyTorch or a safetensors file.

    Returns:
        Keys of tensors; none where the file holds no state dict. Of a file that only code could
        load, every text that may be one.

    Raises:
        InputError: The file is missing or damaged.
    """
    if is_safetensors(Path(path)):
        return _bare_keys(list(SafetensorsFile(Path(path)).tensors))
    try:
        content = open_torch_file(Path(path)).content
    except PickledError as error:
        return [_unwrapped(text) for text in sorted(error.texts)]
    if not isinstance(content, dict):
        return []
    for state in (content, *(content.get(name) for name in _INSIDE)):
        if isinstance(state, dict):
            keys = [str(key) for key, value in state.items() if isinstance(value, StoredTensor)]
            if keys:
                return _bare_keys(keys)
    return []


def _bare_keys(keys: list[str]) -> list[str]:
    """Keys without what a wrapper has put before all of them."""
    for wrapper in _WRAPPERS:
        if keys and all(key.startswith(wrapper) for key in keys):
            keys = [key.removeprefix(wrapper) for key in keys]
    return keys


def _unwrapped(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.removeprefix(wrapper)
    return key


def load_checkpoint(path: str | os.PathLike[str]) -> ModelCheckpoint:
    """Read a converted model's file without executing anything in it, and verify all of it.

    Args:
        path: A ``.pth`` or ``.safetensors`` file, whichever it is by its content.

    Raises:
        InputError: The file is missing, is no such file, holds more than plain tensors, is not as
            it was written, or its tensors are not its model's.
    """
    file = _open(Path(path), FORMAT)
    state = _part(file, file.main)
    raw = _part(file, RAW) if len(file.parts) > 1 else None
    return ModelCheckpoint(file.config, state, file.provenance, raw)


def load_backbone(model: EfficientDet, path: str | os.PathLike[str]) -> None:
    """Fill a detector's backbone from a file of :func:`save_backbone`; nothing else changes.

    Args:
        model: The detector, whose provenance gets the backbone's as ``backbone``.
        path: The file.

    Raises:
        InputError: It cannot be read as of :func:`load_checkpoint`, or is of another backbone.
    """
    file = _open(Path(path), BACKBONE_FORMAT)
    found = ModelCheckpoint(file.config, _part(file, file.main), file.provenance)
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


def _open(path: Path, kind: str) -> ModelFile:
    """A file of one of the two kinds, whose tensors are its model's by name, type and shape."""
    file = open_model_file(path, kind)
    # Before any memory is taken for what a file claims.
    for part, tensors in file.parts.items():
        kinds = {name: str(item) for name, item in tensors.items()}
        beside = " (its raw values)" * (part != file.main)
        _check_fit(file.config, kinds, f"{path}{beside}", kind)
    return file


def _part(file: ModelFile, part: str) -> dict[str, Tensor]:
    """The tensors of a part, whose values have the digests that they were written with."""
    return dict(_each(file, part))


def _each(file: ModelFile, part: str) -> Iterator[tuple[str, Tensor]]:
    """The same, each read when it is asked for."""
    return ((name, torch.from_numpy(file.read(part, name))) for name in file.parts[part])


def load(path: str | os.PathLike[str], weights: str = EMA) -> EfficientDet:
    """The converted model in evaluation mode, on the CPU.

    All of the file is verified, also what is not taken.

    Args:
        path: A ``.pth`` or ``.safetensors`` file, whichever it is by its content.
        weights: ``ema`` for the moving averages where the file has them, else for the only value
            of each parameter; ``raw`` for the raw values.

    Raises:
        InputError: The file cannot be read, its tensors are not this model's, or it holds no raw
            values where they are asked for.
    """
    if weights not in (EMA, RAW):
        raise InputError(f"weights is {weights!r:.40}; give ema or raw.", Cause.OPTION)
    file = _open(Path(path), FORMAT)
    wanted = file.main if weights == EMA else RAW
    if wanted not in file.parts:
        what = "the moving averages alone" if EMA in file.parts else "one value of each parameter"
        raise InputError(
            f"{path} holds {what}{'' if EMA in file.parts else ', and does not say which'}, so "
            f"that no raw values can be taken; convert the checkpoint with --weights both or raw.",
            Cause.MODEL,
        )
    for part in file.parts.keys() - {wanted}:
        for name in file.parts[part]:
            file.read(part, name)
    model = _taking(file.config, _each(file, wanted))
    model.provenance = dict(file.provenance)
    if len(file.parts) > 1:
        # The model has one of the two, which is what it says where it is saved again.
        model.provenance["weights"] = wanted
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


def _taking(config: EfficientDetConfig, tensors: Iterable[tuple[str, Tensor]]) -> EfficientDet:
    """As :func:`from_state_dict` of tensors that fit and that nobody else has.

    Each is laid out as it comes: were the model's laid out together, all would be there twice.
    """
    model = _bare(config)
    laid_out = {
        name: value.to(memory_format=torch.channels_last) if value.dim() == 4 else value
        for name, value in tensors
    }
    model.load_state_dict(laid_out, strict=True, assign=True)
    return model.eval()
