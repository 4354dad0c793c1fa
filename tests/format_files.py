"""Files of the family's containers, by the official code, as they are before they were packed."""

import gzip
import json

import numpy as np

from converter.mappings.official import iterate_pairs
from efficientdet_spec import get_config


def unpacked(test_data, name, folder):
    """A folder of them with every file that was packed for transport unpacked.

    Args:
        test_data: The folder of official files.
        name: Of the folder among ``formats``.
        folder: Where to put it.
    """
    source = test_data / "formats" / name
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            continue
        target = folder / name / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gz":
            target.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        else:
            target.write_bytes(path.read_bytes())
    return folder / name


def ordinals(test_data, model):
    """What every variable of an ``_ids`` file holds, by its official name."""
    path = test_data / "formats" / "variables" / f"{model}.keras_order.json"
    names = [name for name, _, _ in json.loads(path.read_text())["variables"]]
    return {name: position for position, name in enumerate(names, 1)}


def require_ordinals(test_data, model, arrays):
    """Assert that every parameter of a converted ``_ids`` file holds its variables' ordinals."""
    wanted = ordinals(test_data, model)
    pairs = list(iterate_pairs(get_config(model)))
    assert {pair.parameter for pair in pairs} == set(arrays)
    for pair in pairs:
        parts = pair.layout.to_tensorflow(arrays[pair.parameter])
        for name, part in zip(pair.variables, parts, strict=True):
            assert np.all(part == wanted[name]), name
