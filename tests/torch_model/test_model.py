"""The model as a whole: shapes, sizes, fine-tuning."""

from dataclasses import replace

import pytest
import torch

from efficientdet_spec import MODELS, Fusion, InputError, get_config
from torch_model import build
from torch_model.model import EfficientDet

PARAMETERS = {
    "efficientdet-d0": 3_880_067,
    "efficientdet-d1": 6_625_898,
    "efficientdet-d2": 8_097_039,
    "efficientdet-d3": 12_032_296,
    "efficientdet-d4": 20_723_675,
    "efficientdet-d5": 33_653_315,
    "efficientdet-d6": 51_871_782,
    "efficientdet-d7": 51_871_782,
    "efficientdet-d7x": 77_147_166,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_trainable_parameters_are_the_official_count(name):
    with torch.device("meta"):
        model = EfficientDet(MODELS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["efficientdet-d7x", "efficientdet-tiny"])
def test_outputs_of_any_size(name):
    config = MODELS[name]
    with torch.device("meta"):
        classes, boxes = EfficientDet(config).eval()(torch.empty(2, 3, 300, 517))
    sizes = config.feature_sizes(300, 517)
    assert [tuple(x.shape) for x in classes] == [
        (2, 9 * config.num_classes, *sizes[level]) for level in config.levels
    ]
    assert [tuple(x.shape) for x in boxes] == [(2, 36, *sizes[level]) for level in config.levels]


@pytest.mark.parametrize("shape", [(3, 128, 128), (1, 4, 128, 128), (1, 3, 8, 512)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(InputError):
        build(get_config("tiny"))(torch.zeros(shape))


def test_batched_and_single_images_agree():
    torch.manual_seed(0)
    model = build(get_config("tiny")).double()
    images = torch.randn(3, 3, 96, 128, dtype=torch.float64)
    with torch.inference_mode():
        together = model(images)[0]
        alone = [model(image[None])[0] for image in images]
    for level, outputs in enumerate(together):
        torch.testing.assert_close(outputs, torch.cat([single[level] for single in alone]))


def test_no_layer_changes_a_tensor_that_was_handed_out():
    model = build(get_config("tiny"))
    kept = []
    for module in model.modules():
        if not any(module.children()):
            module.register_forward_hook(lambda m, i, o: kept.append((o, o.clone())))
    with torch.inference_mode():
        model(torch.randn(1, 3, 128, 128))
    assert len(kept) > 100
    assert all(torch.equal(output, copy) for output, copy in kept)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_every_parameter_takes_part_in_training(fusion):
    torch.manual_seed(0)
    config = replace(get_config("tiny"), fusion=fusion, head_survival_probability=0.9)
    model = build(config).train()
    classes, boxes = model(torch.randn(4, 3, 128, 128))
    sum((x**2).mean() for x in [*classes, *boxes]).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A fusion weight below zero is cut off by relu; freshly made ones are not.
    assert idle == []
    assert any(buffer.any() for name, buffer in model.named_buffers() if "running_mean" in name)


def test_drop_connect_acts_in_training_only():
    torch.manual_seed(0)
    model = build(get_config("tiny"))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    images = torch.randn(8, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(model(images)[1][0], model(images)[1][0])
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        assert not torch.equal(model(images)[1][0], model(images)[1][0])
