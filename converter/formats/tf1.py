"""TensorFlow 1 checkpoints: a bundle whose keys are the variables' names, as training writes them.

Moving averages, where training kept them, stand beside the raw values under a name of their own.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from converter.formats.bundles import BundleSource
from converter.formats.hyperparameters import ConfigFile
from converter.formats.registry import Format
from converter.formats.target import Values, Written, WrittenRow
from converter.mappings.layouts import Array
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import checkpoint_files
from converter.tensorflow_files.bundle_writer import Tensors, write_bundle
from converter.tensorflow_files.naming import STATE_FILE
from converter.tensorflow_files.places import checkpoint_at, require_readable
from efficientdet_spec import EMA_SUFFIX, Cause, InputError


class Tf1Source(BundleSource):
    """A TensorFlow 1 checkpoint; see :class:`BundleSource`."""

    FORMAT = "tf1"
    SAYS = "a TensorFlow 1 checkpoint"


def find(path: Path) -> Path | None:
    """The prefix of the checkpoint that a path names; see :class:`Format`."""
    prefix = checkpoint_at(path)
    if prefix is not None:
        require_readable(prefix)
    return prefix


def write(folder: Path, values: Values) -> Written:
    """Write a checkpoint as official training and the releases have it; see :class:`Format`.

    ``config.yaml`` beside it says the hyperparameters; of one that is there see
    :meth:`~converter.formats.hyperparameters.ConfigFile.beside`.

    Without raw values both names of a variable hold the same: whoever restores takes the averages
    by default, and official fine-tuning starts from the plain names.

    Args:
        folder: Where the files go, under the name ``model``; made if need be.
        values: The model.
    """
    plain = values.arrays if values.raw is None else values.raw
    reason = "raw" if values.raw is not None else "model"
    tensors: dict[str, Array] = {"global_step": np.array(0, np.int64)}
    rows = {"global_step": WrittenRow("global_step", (), "", "", "training step counter")}
    for pair in iterate_pairs(values.config):
        both = [("", plain, reason)]
        if values.with_averages:
            both.append((EMA_SUFFIX, values.arrays, "ema" if values.raw is not None else "model"))
        made: dict[int, list[Array]] = {}
        for suffix, arrays, which in both:
            array = arrays[pair.parameter]
            # Where one array is both, it is laid out once and kept once.
            if id(array) not in made:
                made[id(array)] = pair.layout.to_tensorflow(np.asarray(array))
            parts = made[id(array)]
            for variable, part in zip(pair.variables, parts, strict=True):
                name = variable + suffix
                tensors[name] = part
                rows[name] = WrittenRow(name, part.shape, pair.parameter, pair.layout.name, which)
    files, notes = write_into(folder, tensors, values)
    if values.with_averages and values.raw is None:
        notes = (
            *notes,
            "Raw values and moving averages (EMA) hold the same: one value of each variable was "
            "taken.",
        )
    return Written(files, tuple(rows[name] for name in sorted(rows)), notes)


def write_into(
    folder: Path, tensors: Tensors, values: Values
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write a bundle called ``model``, and its ``config.yaml``, into a folder of its own.

    Args:
        folder: The folder, which is made if need be.
        tensors: By name.
        values: What they are made of.

    Returns:
        The files, and what a user should know.

    Raises:
        InputError: It cannot be written, or another ``config.yaml`` is in the way.
    """
    beside = ConfigFile.beside(folder / "model", values)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}); name a folder that can be written.",
            Cause.of(error),
        ) from error
    try:
        with beside.writing():
            prefix = write_bundle(folder / "model", tensors)
    except BaseException:
        if new:
            # Only where nothing lies in it.
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    files = (*checkpoint_files(prefix), folder / STATE_FILE, *beside.files)
    return files, beside.notes


FORMATS = (
    Format(
        name="tf1",
        says=Tf1Source.SAYS,
        find=find,
        open=lambda prefix: Tf1Source(prefix, prefix),
        files=checkpoint_files,
        write=write,
        is_folder=True,
        holds_both=True,
        # Whatever else is a bundle has been asked before.
        order=60,
    ),
)
