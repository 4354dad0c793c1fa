"""A model that was trained in PyTorch goes back to TensorFlow, which detects just what it does."""

import json
import shutil
from dataclasses import replace

import cv2
import made_images
import numpy as np
import pytest
import torch

import compare
import convert
import efficientdet_parity as ep
from torch_model.checkpoint import from_arrays

SIZE = (128, 128)
STEPS = 2


def trained(conversion, config):
    """The model after steps of SGD in train mode, which change statistics of batch norms too."""
    torch.manual_seed(5)
    model = from_arrays(config, conversion.arrays, "tiny").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        classes, boxes = model(torch.randn(2, 3, *SIZE))
        loss = sum(part.square().mean() for part in (*classes, *boxes))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def ways(tiny_conversion, tmp_path_factory):
    """The model as it was saved, and as the TensorFlow 1 checkpoint that was made of that."""
    folder = tmp_path_factory.mktemp("way")
    # Without its configuration TensorFlow would compute and decode otherwise.
    config = replace(tiny_conversion.config, anchor_scale=2.5, head_survival_probability=0.8)
    model = trained(tiny_conversion, config)
    before = tiny_conversion.arrays
    state = model.state_dict()
    changed = [name for name in before if not np.array_equal(state[name].numpy(), before[name])]
    assert {name.rpartition(".")[2] for name in changed} >= {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "weights",
    }
    ep.save(model, folder / "trained.pth")
    targets = [str(folder / "trained.pth"), str(folder / "tf")]
    assert convert.main([*targets, "--to", "tf1"]) == 0
    return folder / "trained.pth", folder / "tf"


def test_every_node_of_the_reference_graph_is_the_models(ways, tmp_path):
    path, checkpoint = ways
    json_path = tmp_path / "nodes.json"
    arguments = [str(checkpoint), "--candidate", str(path), "--size", "128x128"]
    assert compare.main(["nodes", *arguments, "--json", str(json_path)]) == 0
    result = json.loads(json_path.read_text())
    assert result["outcome"] == "parity"


def test_both_detect_the_same(ways, tmp_path):
    path, checkpoint = ways
    image, out = tmp_path / "waves.png", tmp_path / "out"
    assert cv2.imwrite(str(image), made_images.waves(*SIZE)[..., ::-1])
    arguments = [str(checkpoint), str(image), "--candidate", str(path), "--out", str(out)]
    assert compare.main(["detect", *arguments, "--size", "128x128", "--min-score", "0"]) == 0
    result = json.loads((out / "detect.json").read_text())
    assert result["outcome"] == "parity"
    assert result["compared"]["matched"] == result["compared"]["detections"]["tensorflow"] > 50


def test_a_model_before_its_last_step_would_be_seen(ways, tmp_path):
    path, checkpoint = ways
    model = ep.load(path)
    with torch.no_grad():
        model.box_head.predict.pointwise.bias += 1e-3
    ep.save(model, tmp_path / "other.pth")
    arguments = [str(checkpoint), "--candidate", str(tmp_path / "other.pth"), "--size", "128x128"]
    assert compare.main(["nodes", *arguments]) == 1


def test_without_its_configuration_it_would_be_another_model(ways, tmp_path, capsys):
    path, checkpoint = ways
    folder = shutil.copytree(checkpoint, tmp_path / "bare")
    (folder / "config.yaml").unlink()
    arguments = [str(folder), "--candidate", str(path), "--size", "128x128"]
    assert compare.main(["nodes", *arguments]) == 2
    assert "with anchor_scale 2.5, but the checkpoint" in capsys.readouterr().err
