"""Converted models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientdet_parity.progress import Callback, reporting
from efficientdet_parity.wording import as_arguments
from efficientdet_spec import Cause, InputError
from parity.settings.convert import ConvertSettings

if TYPE_CHECKING:
    from torch_model.model import EfficientDet


_WRITTEN = ("target", "list", "filter", "json", "to", "no_ema")
"""Settings that say what a command line writes and prints."""


def convert(
    checkpoint: str | os.PathLike[str], *, progress: Callback | None = None, **settings: Any
) -> EfficientDet:
    """Convert any file with a model's values, of TensorFlow, Keras or PyTorch.

    Args:
        checkpoint: Folder, prefix, file, archive, address, or an official name, which is
            downloaded.
        progress: Called as the work proceeds.
        settings: ``weights``, ``model``, ``num_classes``, ``hparams``, ``cache``, ``sha256``,
            ``offline``, as of the command line; ``hparams`` may also be a mapping.

    Returns:
        The PyTorch model in evaluation mode, which takes [N, 3, H, W] and returns class and box
        outputs. Its attribute ``provenance`` says where every value came from.

    Raises:
        InputError: The checkpoint cannot be used; its ``cause`` says of which kind the reason is.
    """
    from parity.commands.asking.options import convert_checkpoint, resolve_checkpoint
    from torch_model.checkpoint import from_arrays

    for name in settings:
        if name in _WRITTEN:
            raise InputError(
                f"{name} says what a command line writes; use save on the model that is returned.",
                Cause.OPTION,
            )
    if settings.get("weights") == "both":
        raise InputError(
            "A model has one value of each parameter, and both asks for two; give ema or raw, or "
            "write a file with both on the command line.",
            Cause.OPTION,
        )
    if "backbone" in settings:
        raise InputError(
            "A backbone alone is no detector; write it with convert --backbone on the command "
            "line, and give its file to load_backbone.",
            Cause.OPTION,
        )
    with reporting(progress), as_arguments(ConvertSettings):
        asked = ConvertSettings.of(checkpoint=str(checkpoint), **settings)
        files = resolve_checkpoint(asked)
        done = convert_checkpoint(asked, files)
    model = from_arrays(done.config, done.arrays, source=str(files.prefix))
    model.provenance = dict(done.provenance)
    return model


def load(path: str | os.PathLike[str], *, weights: str = "ema") -> EfficientDet:
    """A model that :func:`save` or the command line has written, as of :func:`convert`.

    Args:
        path: The ``.pth`` or ``.safetensors`` file, which can run no code. Which of the two it is
            is told by its content.
        weights: ``ema`` for the moving averages where the file has them, else for the only value
            of each parameter; ``raw`` for the raw values.

    Raises:
        InputError: It cannot be read, is no such file, or has no raw values where they are asked
            for.
    """
    from torch_model import checkpoint

    return checkpoint.load(Path(path).expanduser(), weights)


def build(model: str, *, num_classes: int | None = None) -> EfficientDet:
    """A detector that nobody has trained yet, to start training from.

    Args:
        model: Its name, such as ``efficientdet-d0``, as ``models`` of the command line lists them.
        num_classes: Number of classes; None for COCO's 90.

    Returns:
        The PyTorch model in evaluation mode, freshly initialised.

    Raises:
        InputError: There is no such model, or there cannot be so many classes.
    """
    from efficientdet_spec import get_config
    from torch_model.model import build as built

    config = get_config(model)
    return built(config if num_classes is None else config.with_classes(num_classes))


def load_backbone(model: EfficientDet, path: str | os.PathLike[str]) -> None:
    """Fill a detector's backbone from a file that ``convert --backbone`` has written.

    Args:
        model: Of :func:`build`, :func:`convert` or :func:`load`; its BiFPN and heads stay as they
            are, and its attribute ``provenance`` says where the backbone came from.
        path: The ``.pth`` file, which can run no code.

    Raises:
        InputError: It cannot be read, is a whole detector's, or is of another backbone.
    """
    from torch_model import checkpoint
    from torch_model.model import EfficientDet

    if not isinstance(model, EfficientDet):
        raise InputError(
            f"A {type(model).__name__} has no backbone that is known here; give a model that "
            f"build, convert or load has returned.",
            Cause.MODEL,
        )
    checkpoint.load_backbone(model, Path(path).expanduser())


def save(model: EfficientDet, path: str | os.PathLike[str], *, to: str | None = None) -> None:
    """Write a model, as the command line does.

    What is written are the model's own values, one of each parameter. Raw values that a file held
    beside the averages are not kept: once a model is trained on, they are no longer its own.

    Args:
        model: Of :func:`convert`, :func:`load` or :func:`build`; its parameters may have been
            trained since, and the file says so then.
        path: The file or folder. ``.pth``, ``.safetensors`` and ``.h5`` say by their ending what it
            is to be; it appears complete or not at all.
        to: What it is to be where its ending does not say so: ``tf1`` or ``tf2``, a TensorFlow
            checkpoint in a folder, ``effdet`` or ``zylo117``, their state dict.

    Raises:
        InputError: It is no such model, the model cannot be written so, or the file cannot.
    """
    from converter.formats.registry import check_target, target_format
    from torch_model.model import EfficientDet

    if not isinstance(model, EfficientDet):
        raise InputError(
            f"A {type(model).__name__} cannot be saved here; give a model that convert or load "
            f"has returned, or write yours with torch.save.",
            Cause.MODEL,
        )
    target = Path(path).expanduser()
    found = target_format(target, to)
    check_target(target, found)
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    arrays = {name: value.numpy() for name, value in state.items() if not name.endswith(_COUNTER)}
    provenance = _told_of(model, arrays)
    if found.name in _OWN:
        from torch_model import checkpoint

        write = getattr(checkpoint, _OWN[found.name])
        write(target, checkpoint.ModelCheckpoint(model.config, state, provenance))
        return
    import numpy as np

    from converter.formats.target import Values

    assert found.write is not None
    floats = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    found.write(target, Values(model.config, floats, None, provenance))


_OWN = {"pth": "save_checkpoint", "safetensors": "save_safetensors"}
"""What writes the containers that keep a model's counters of training steps too."""

_COUNTER = ".num_batches_tracked"


def _told_of(model: EfficientDet, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Where a model's values come from; that they were changed since, where they were."""
    import numpy as np

    from converter.fingerprints import of_arrays

    known = dict(getattr(model, "provenance", {}))
    before = known.get("model_fingerprint")
    if before is None:
        return known
    floats = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    now = of_arrays(model.config, floats)
    if now == before:
        return known
    note = "The values were changed after they were converted, as by training."
    changed = {name: value for name, value in known.items() if name not in _OF_THE_VALUES}
    notes = [*(item for item in known.get("notes", ()) if item != note), note]
    return {**changed, "model_fingerprint": now, "release": None, "notes": notes}


_OF_THE_VALUES = (
    "weights",
    "values_fingerprint",
    "checkpoint_fingerprint",
    "licence",
    "container",
    "checked",
    "index_sha256",
    "file_sha256",
    "graph_sha256",
    "variables",
    "dtypes",
)
"""What no longer holds of values that were changed. (A licence is of the file they came from.)"""
