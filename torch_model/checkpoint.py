"""Converted models on disk: ``.pth`` files that say what they hold and where it came from."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from efficientdet_spec import Cause, EfficientDetConfig, InputError, replacing
from torch_model.model import EfficientDet, build

FORMAT = "efficientdet-parity"
FORMAT_VERSION = 1

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


def save_checkpoint(path: str | os.PathLike[str], checkpoint: ModelCheckpoint) -> None:
    """Write ``checkpoint`` to ``path``; the file appears complete or not at all.

    Raises:
        InputError: The file cannot be written (no such folder, no right, disk full).
    """
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": checkpoint.config.name,
        "config": checkpoint.config.to_dict(),
        "state_dict": dict(checkpoint.state_dict),
        "provenance": dict(checkpoint.provenance),
    }
    _write(Path(path), content)


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


def from_arrays(
    config: EfficientDetConfig, arrays: Mapping[str, NDArray[Any]], source: str
) -> EfficientDet:
    """A model in evaluation mode with these parameters, as :func:`from_state_dict`."""
    return from_state_dict(config, _tensors(arrays), source)


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _first_line(error: Exception) -> str:
    """An error's own words, or its kind where it has none."""
    return f"{str(error).partition(chr(10))[0] or type(error).__name__:.120}"


def _as_program(path: Path, error: Exception) -> str | None:
    """What a file holds besides tensors that only code could bring back; None if nothing known.

    Args:
        path: The file.
        error: Why PyTorch's restricted unpickler refuses it.
    """
    # It names the first class or function that the file asks for and that makes no tensor.
    if found := re.search(r"\bGLOBAL ([\w.]+)", str(error)):
        return f"a pickled {found[1]}"
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript program"
    return None


def _read(path: Path) -> Any:
    """What a PyTorch file of plain tensors holds.

    Raises:
        InputError: The file is missing, is no such file, or holds more than plain tensors.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the .pth that convert.py wrote.", Cause.FILE)
    try:
        with warnings.catch_warnings():
            # What it warns about is refused below, or does not matter to plain tensors.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if program := _as_program(path, error):
            raise InputError(
                f"{path} is not a PyTorch file of plain tensors but holds {program}, and loading "
                f"it would run code; give the .pth that convert.py wrote, or for a model of your "
                f"own FILE.py:FUNCTION, where the function loads the file and returns the module.",
                Cause.FORMAT,
            ) from error
        # The restricted unpickler raises whatever a damaged byte leads to.
        kind = "a damaged" if zipfile.is_zipfile(path) else "not a"
        # What the unpickler says is advice on trusting files, which would be wrong here.
        own = "" if isinstance(error, pickle.UnpicklingError) else f" ({_first_line(error)})"
        raise InputError(
            f"{path} is {kind} PyTorch file of plain tensors{own}; convert the checkpoint again.",
            Cause.of(error),
        ) from error


def plain_keys(path: str | os.PathLike[str]) -> list[str]:
    """The keys of a plain state dict, as other code bases write it.

    Trainers put it into a dictionary with more in it, and wrappers of a model put the name of
    their attribute before every key; neither belongs to the model.

    Args:
        path: A PyTorch file.

    Returns:
        Keys of tensors; none where the file holds no state dict.

    Raises:
        InputError: The file is missing, damaged, or holds more than plain tensors.
    """
    content = _read(Path(path))
    if not isinstance(content, dict):
        return []
    for state in (content, *(content.get(name) for name in _INSIDE)):
        if isinstance(state, dict):
            keys = [str(key) for key, value in state.items() if isinstance(value, Tensor)]
            for wrapper in _WRAPPERS:
                if keys and all(key.startswith(wrapper) for key in keys):
                    keys = [key.removeprefix(wrapper) for key in keys]
            if keys:
                return keys
    return []


def load_checkpoint(path: str | os.PathLike[str]) -> ModelCheckpoint:
    """Read a converted ``.pth`` file without executing anything in it.

    Raises:
        InputError: The file is missing, is no such file, or holds more than plain tensors.
    """
    path = Path(path)
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{path} is a PyTorch file, but not one that convert.py wrote (no format mark "
            f"{FORMAT!r}); convert the TensorFlow checkpoint with convert.py, or give a model of "
            f"your own as FILE.py:FUNCTION.",
            Cause.FORMAT,
        )
    version = content.get("version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version!r}, but this program reads "
            f"{FORMAT_VERSION}; convert the checkpoint again or update the program.",
            Cause.FORMAT,
        )
    try:
        config = EfficientDetConfig.from_dict(content["config"])
        state_dict, provenance = content["state_dict"], dict(content["provenance"])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} lacks or garbles a part of it ({error}); convert the checkpoint again.",
            Cause.FORMAT,
        ) from error
    if not isinstance(state_dict, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state_dict.items()
    ):
        raise InputError(
            f"{path}: state_dict is no mapping of names to tensors; convert again.", Cause.FORMAT
        )
    return ModelCheckpoint(config, state_dict, provenance)


def load(path: str | os.PathLike[str]) -> EfficientDet:
    """The converted model in evaluation mode, on the CPU.

    Raises:
        InputError: The file cannot be read, or its tensors are not this model's.
    """
    checkpoint = load_checkpoint(path)
    return from_state_dict(checkpoint.config, checkpoint.state_dict, source=str(path))


def load_same(path: str | os.PathLike[str], config: EfficientDetConfig) -> EfficientDet:
    """As :func:`load`, of a file that must be of a certain model.

    Args:
        path: The file.
        config: The checkpoint's model.

    Raises:
        InputError: It cannot be read, or is of another model.
    """
    model = load(path)
    difference = model.config.first_difference(config)
    if difference is not None:
        name, found, expected = difference
        raise InputError(
            f"{path} holds {model.config.name} with {name} {found}, but the checkpoint is "
            f"{config.name} with {name} {expected}; give files of one model.",
            Cause.MODEL,
        )
    return model


def _kind(tensor: Tensor) -> str:
    """Type and shape for comparison and messages; a sparse tensor is of another kind too."""
    layout = "" if tensor.layout is torch.strided else f"{tensor.layout} "
    return f"{layout}{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def from_state_dict(
    config: EfficientDetConfig, state_dict: Mapping[str, Tensor], source: str
) -> EfficientDet:
    """A model in evaluation mode with these parameters, every one of them filled.

    Args:
        config: What the model is.
        state_dict: Parameters and statistics by name.
        source: Where they came from, for messages.

    Raises:
        InputError: A tensor is missing, unknown or of another type or shape; all are listed.
    """
    with torch.device("meta"):
        model = EfficientDet(config)
    expected = model.state_dict()
    found = {name for name in state_dict if not name.endswith("num_batches_tracked")}
    wanted = {name for name in expected if not name.endswith("num_batches_tracked")}
    findings = [f"{name} is missing" for name in sorted(wanted - found)]
    findings += [f"{name} is unknown" for name in sorted(state_dict.keys() - expected.keys())]
    findings += [
        f"{name} is {_kind(state_dict[name])}, not {_kind(expected[name])}"
        for name in sorted(state_dict.keys() & expected.keys())
        if _kind(state_dict[name]) != _kind(expected[name])
    ]
    if findings:
        shown = "; ".join(findings[:8]) + (f"; and {len(findings) - 8} more" * (len(findings) > 8))
        raise InputError(f"{source} does not fit {config.name}: {shown}.", Cause.MODEL)
    model = build(config)
    # A plain dict carries no version, so batch norms may lack their unused batch counter.
    model.load_state_dict(dict(state_dict), strict=True)
    return model
