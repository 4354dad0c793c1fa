"""Plain state dicts for other PyTorch code bases (:mod:`converter.mappings`) to load strictly."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from converter.formats.hyperparameters import unsaid
from converter.formats.registry import Format
from converter.formats.target import Values, Written, WrittenRow, no_room
from converter.mappings.keys import Key, Naming
from converter.mappings.layouts import KEPT
from converter.mappings.state_dicts import namings, to_naming
from torch_model.saving import save_state_dict


def write(naming: Naming, path: Path, values: Values) -> Written:
    """Write a state dict with every key that the code base's model has, in its order.

    Args:
        naming: Of the code base.
        path: The file.
        values: The model.

    Raises:
        InputError: The code base has no such model, raw values are to be kept too, or the file
            cannot be written.
    """
    if values.raw is not None:
        raise no_room(_says(naming))
    source = str(values.provenance.get("source", "The source"))
    arrays = to_naming(naming, values.config, values.arrays, source)
    keys = {key.name: key for key in naming.keys(values.config)}
    save_state_dict(path, arrays)
    rows = tuple(_row(keys[name], naming, values) for name in arrays)
    notes = (*naming.notes(values.config), *unsaid(values.config, naming.project))
    return Written((path,), rows, notes)


def _says(naming: Naming) -> str:
    return f"a state dict with the keys of {naming.whose}"


def _row(key: Key, naming: Naming, values: Values) -> WrittenRow:
    """What a key holds: all have the shape and the axes of the parameter."""
    if key.parameter in values.arrays:
        return WrittenRow(key.name, key.shape, str(key.parameter), KEPT.name, "model")
    return WrittenRow(key.name, key.shape, "", "", key.why_unused(naming))


FORMATS = tuple(
    Format(
        name=naming.name,
        says=_says(naming),
        write=partial(write, naming),
        ending=".pth",
    )
    for naming in namings().values()
)
