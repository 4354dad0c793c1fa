"""Seeded checkpoints: no fusion of theirs is dead, and nothing else is changed for it."""

from dataclasses import replace

import numpy as np
import pytest

from converter.mappings.layouts import SCALARS, VECTORS
from converter.mappings.official import iterate_pairs
from converter.seeded import seeded_variables, write_seeded
from converter.tensorflow_files.bundle import open_bundle
from efficientdet_spec import EMA_SUFFIX, TINY, WIRINGS, Fusion

QUAD = replace(TINY, fpn_nodes=WIRINGS["qufpn"](TINY.levels), fpn_cells=12)


def without_statistics(config, parameters):
    """Statistics of which only the shapes matter here."""
    missing = {pair.parameter: np.ones(pair.shape, np.float32) for pair in iterate_pairs(config)}
    return {**missing, **parameters}


@pytest.mark.parametrize("fusion", [Fusion.FAST_ATTENTION, Fusion.CHANNEL_FAST_ATTENTION])
def test_no_fusion_is_dead(fusion, tmp_path):
    config = replace(QUAD, fusion=fusion)
    drawn = dict(seeded_variables(config, "seed"))
    bundle = open_bundle(write_seeded(config, tmp_path, "seed", without_statistics))
    dead = 0
    for pair in iterate_pairs(config):
        if pair.layout not in (SCALARS, VECTORS):
            continue
        before = np.array([drawn[name] for name in pair.variables])
        after = np.array([bundle.read(name + EMA_SUFFIX) for name in pair.variables])
        lifeless = (before <= 0).all(axis=0)
        dead += int(np.sum(lifeless))
        assert (after > 0).any(axis=0).all()
        assert np.array_equal(after, np.where(lifeless, np.abs(before), before))
    # Otherwise this would show nothing.
    assert dead > 0


def test_softmax_keeps_negative_weights(tmp_path):
    config = replace(QUAD, fusion=Fusion.SOFTMAX_ATTENTION)
    bundle = open_bundle(write_seeded(config, tmp_path, "seed", without_statistics))
    for name, value in seeded_variables(config, "seed"):
        if "/WSM" in name:
            assert np.array_equal(bundle.read(name + EMA_SUFFIX), value)
