"""Each layer has TensorFlow's semantics: against TensorFlow, and against hand-made cases."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import torch

from efficientdet_spec import FUSION_EPSILON, Fusion
from torch_model import layers

CASES = list(itertools.product((3, 5), (1, 2), (7, 8), (9, 10)))


def nchw(array):
    return torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)


def nhwc(tensor):
    return tensor.detach().permute(0, 2, 3, 1).numpy()


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("kernel, stride, height, width", CASES)
def test_convolutions_pad_as_same(kernel, stride, height, width):
    x = draw(2, height, width, 4)
    weight = draw(kernel, kernel, 4, 6)
    conv = layers.Conv2d(4, 6, kernel, stride, bias=False).double()
    conv.weight.data = torch.from_numpy(weight).permute(3, 2, 0, 1)
    expected = tf.nn.conv2d(x, weight, stride, "SAME").numpy()
    np.testing.assert_allclose(nhwc(conv(nchw(x))), expected, rtol=0, atol=1e-12)

    depthwise = layers.DepthwiseConv2d(4, kernel, stride).double()
    depthwise.weight.data = torch.from_numpy(weight[..., :1]).permute(2, 3, 0, 1)
    expected = tf.nn.depthwise_conv2d(x, weight[..., :1], [1, stride, stride, 1], "SAME").numpy()
    np.testing.assert_allclose(nhwc(depthwise(nchw(x))), expected, rtol=0, atol=1e-12)


def test_symmetric_padding_would_be_seen():
    x, weight = draw(1, 8, 8, 2), draw(3, 3, 2, 2)
    expected = tf.nn.conv2d(x, weight, 2, "SAME").numpy()
    kernel = torch.from_numpy(weight).permute(3, 2, 0, 1)
    symmetric = torch.nn.functional.conv2d(nchw(x), kernel, stride=2, padding=1)
    assert np.abs(nhwc(symmetric) - expected).max() > 0.1


@pytest.mark.parametrize("height, width", [(8, 8), (7, 9), (5, 4), (2, 3)])
def test_pools_pad_with_minus_infinity(height, width):
    # All values are negative, so that a pool padded with zeros would give zeros at borders.
    x = (-1 - np.abs(draw(1, height, width, 3))).astype(np.float32)
    size = (-(-height // 2), -(-width // 2))
    expected = tf.nn.max_pool2d(x, 3, 2, "SAME").numpy()
    result = nhwc(layers.MaxPool2d()(nchw(x), size))
    assert result.shape == expected.shape
    assert (result == expected).all()
    assert (result < 0).all()


@pytest.mark.parametrize("size, target", [((2, 2), (4, 4)), ((3, 4), (5, 7)), ((9, 13), (17, 26))])
def test_upsampling_takes_the_pixels_tensorflow_takes(size, target):
    x = draw(1, *size, 2)
    expected = tf.compat.v1.image.resize_nearest_neighbor(x, target).numpy()
    assert (nhwc(layers.Upsample()(nchw(x), target)) == expected).all()


def test_batch_norm_uses_the_official_epsilon_and_keeps_99_percent():
    norm = layers.BatchNorm2d(2).double()
    assert norm.momentum == pytest.approx(0.01)
    x = nchw(draw(4, 5, 5, 2)) * 3 + 1
    norm.running_mean.fill_(10.0)
    norm(x)
    expected = 0.99 * 10 + 0.01 * x.mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected)
    norm.eval()
    norm.running_var.fill_(0.0)
    scale = (norm(x) / (x - norm.running_mean.view(1, -1, 1, 1))).mean().item()
    assert scale == pytest.approx(1 / np.sqrt(1e-3))


def test_swish():
    x = torch.linspace(-30, 30, 1001, dtype=torch.float64)
    torch.testing.assert_close(layers.Swish()(x), x / (1 + torch.exp(-x)))


def test_fast_attention_ignores_negative_weights_and_adds_epsilon():
    features = [
        torch.full((1, 1, 2, 2), value, dtype=torch.float64) for value in (1.0, 10.0, 100.0)
    ]
    weights = torch.tensor([0.5, -3.0, 1.5], dtype=torch.float64)
    result = layers.Fuse(Fusion.FAST_ATTENTION)(features, weights)
    assert result.unique().item() == pytest.approx((0.5 * 1 + 1.5 * 100) / (2 + FUSION_EPSILON))


def test_softmax_attention_and_sum():
    features = [torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (1.0, 10.0)]
    weights = torch.tensor([0.0, np.log(3.0)], dtype=torch.float64)
    assert layers.Fuse(Fusion.SOFTMAX_ATTENTION)(features, weights).item() == pytest.approx(7.75)
    assert layers.Fuse(Fusion.SUM)(features, None).item() == 11


def test_drop_connect_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3, 3)
    dropped = layers.drop_connect(x, 0.8)
    per_image = dropped.flatten(1)
    assert (per_image == per_image[:, :1]).all()
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    # Five standard deviations of the mean of 4000 draws.
    assert abs(dropped.mean().item() - 1) < 5 * 1.25 * np.sqrt(0.8 * 0.2 / 4000)
