"""Networks that the official code made under hyperparameters, and their values."""

import gzip
import hashlib
import json
import math
from pathlib import Path

import numpy as np

from converter.mappings.official import iterate_pairs
from converter.seeded import seeded_variables

FOLDER = Path(__file__).parent / "golden" / "hparams"


def plain(value):
    """A golden's value, in which JSON's own forms stand for tuples and other dictionaries."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {"tuple"}:
            return tuple(plain(value["tuple"]))
        if set(value) == {"items"}:
            return {plain(key): plain(item) for key, item in value["items"]}
        return {key: plain(item) for key, item in value.items()}
    return value


def read(name):
    path = FOLDER / name
    data = path.read_bytes()
    return plain(json.loads(gzip.decompress(data) if path.suffix == ".gz" else data))


def networks():
    """Names of the goldens that are networks."""
    others = ("anchors", "backbones", "postprocessing", "preprocessing")
    names = [path.name.removesuffix(".json.gz") for path in sorted(FOLDER.glob("*.json.gz"))]
    return [name for name in names if name not in others and "variables" in read(f"{name}.json.gz")]


def lite_models():
    """Names of the goldens that are lite models as they are."""
    names = [path.name.removesuffix(".json.gz") for path in sorted(FOLDER.glob("lite/*.json.gz"))]
    return [f"lite/{name}" for name in names]


def statistic(name, shape, scale):
    """The statistics of a batch norm, as the goldens' README says."""
    digest = hashlib.sha256(f"hparams/{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    if name.endswith("moving_mean"):
        value = 0.1 * math.sqrt(scale) * rng.standard_normal(shape)
    else:
        value = scale * rng.uniform(0.8, 1.25, shape)
    return np.asarray(value, np.float32)


def variables(config, scales):
    values = dict(seeded_variables(config, "hparams"))
    for pair in iterate_pairs(config):
        for name, shape in pair.variable_shapes.items():
            if name not in values:
                values[name] = statistic(name, shape, scales[name.rpartition("/")[0]])
    return values
