"""TensorFlow's detection: what its graph optimiser may rewrite, and what stays."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_images import waves

pytest.importorskip("tensorflow")

from parity.commands.detecting.detection import OPTIMISED, Detection, describe_environment
from parity.commands.detecting.detectors import detecting
from parity.commands.detecting.tensorflow_detection import tensorflow_stages
from parity.detections.shard_files import ShardFolder
from torch_model.preprocess import preprocess
from torch_model.profiles import get_profile


@pytest.fixture(scope="module")
def setup(tiny_conversion, tiny_checkpoint):
    return Detection(
        conversion=tiny_conversion,
        prefix=Path(tiny_checkpoint) / "model",
        profile=get_profile("official"),
        size=(128, 128),
        weights="ema",
        device="cpu",
        threads=1,
        batch=1,
    )


@pytest.fixture(scope="module")
def both(setup):
    """The stages without and with the optimiser."""
    with (
        tensorflow_stages(setup, optimised=False) as plain,
        tensorflow_stages(setup, optimised=True) as optimised,
    ):
        yield plain, optimised


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", waves(90, 150)[..., ::-1])[1].tobytes())
    return path


def test_the_network_is_rewritten_and_nothing_else(both, photograph):
    through = []
    for stages in both:
        pixels, scale = stages.preprocess(photograph, stages.decode(photograph))
        # Of TensorFlow's default optimiser a division would have become a product.
        assert pixels[0].tobytes() == preprocess(waves(90, 150), 128, 128).tobytes()
        through.append((pixels, scale, stages.network(pixels)))
    (pixels, scale, plain), (_, _, rewritten) = through
    apart = max(np.abs(one - other).max() for one, other in zip(plain, rewritten, strict=True))
    largest = max(np.abs(level).max() for level in plain)
    assert 0 < apart < 1e-5 * largest
    found = [stages.postprocess(plain, scale) for stages in both]
    for one, other in zip(*found, strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_stage_leaves_what_enters_it(both, photograph):
    """Memory is shared from stage to stage, not given away."""
    stages = both[1]
    image = stages.decode(photograph)
    pixels, scale = stages.preprocess(photograph, image)
    kept = pixels.copy()
    first = stages.network(pixels)
    values = [level.copy() for level in first]
    boxes = stages.postprocess(first, scale)[0].copy()
    stages.postprocess(stages.network(np.zeros_like(pixels)), scale)
    assert (image == waves(90, 150)).all() and (pixels == kept).all()
    assert all((one == other).all() for one, other in zip(first, values, strict=True))
    assert (stages.postprocess(first, scale)[0] == boxes).all()


def test_what_detects_is_rewritten_and_says_so(setup, both, photograph):
    side = detecting("tensorflow")
    assert side.manifest(setup)["graph_optimizer"] == OPTIMISED == "network"
    assert "graph_optimizer" not in detecting("torch").manifest(setup)
    assert describe_environment(setup, False)["tensorflow_graph_optimizer"] == OPTIMISED
    with side.open(setup) as opened:
        found = opened.detect([opened.prepare(photograph)])[0]
    stages = both[1]
    pixels, scale = stages.preprocess(photograph, stages.decode(photograph))
    expected = stages.postprocess(stages.network(pixels), scale)
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_images_of_a_batch_are_filled_up(setup, both, photograph):
    with detecting("tensorflow").open(replace(setup, batch=3)) as opened:
        prepared = opened.prepare(photograph)
        found = opened.detect([prepared, prepared])
    assert len(found) == 2
    for one, other in zip(*found, strict=True):
        assert (one == other).all()


def test_detections_of_a_graph_as_it_is_are_not_gone_on_with(setup, tmp_path):
    manifest = {**detecting("tensorflow").manifest(setup)}
    ShardFolder.claim(tmp_path / "new", manifest)
    ShardFolder.claim(tmp_path / "new", manifest)
    before = {name: value for name, value in manifest.items() if name != "graph_optimizer"}
    ShardFolder.claim(tmp_path / "old", before)
    with pytest.raises(ValueError, match="graph_optimizer"):
        ShardFolder.claim(tmp_path / "old", manifest)
