"""The specification agrees with the papers' and the official code's figures."""

import pytest

from efficientdet_spec import (
    LITE_MODELS,
    MODELS,
    OFFICIAL_MODELS,
    EfficientDetConfig,
    Fusion,
    InputError,
    get_config,
    parse_size,
    round_channels,
)

# Official figures: input, backbone, BiFPN channels, cells, head repeats, levels, P3/P4/P5 blocks.
TABLE = {
    "d0": (512, "b0", 64, 3, 3, 7, (4, 10, 15)),
    "d1": (640, "b1", 88, 4, 3, 7, (7, 15, 22)),
    "d2": (768, "b2", 112, 5, 3, 7, (7, 15, 22)),
    "d3": (896, "b3", 160, 6, 4, 7, (7, 17, 25)),
    "d4": (1024, "b4", 224, 7, 4, 7, (9, 21, 31)),
    "d5": (1280, "b5", 288, 7, 4, 7, (12, 26, 38)),
    "d6": (1280, "b6", 384, 8, 5, 7, (14, 30, 44)),
    "d7": (1536, "b6", 384, 8, 5, 7, (14, 30, 44)),
    "d7x": (1536, "b7", 384, 8, 5, 8, (17, 37, 54)),
}


@pytest.mark.parametrize("name", TABLE)
def test_official_models(name):
    size, backbone, channels, cells, repeats, top, blocks = TABLE[name]
    config = get_config(name)
    assert config.image_size == (size, size)
    assert config.backbone_name == f"efficientnet-{backbone}"
    assert (config.fpn_channels, config.fpn_cells, config.head_repeats) == (
        channels,
        cells,
        repeats,
    )
    assert list(config.levels) == list(range(3, top + 1))
    features = config.backbone.feature_blocks()
    assert tuple(features[level] for level in (3, 4, 5)) == blocks
    fused_by_sum = name in ("d6", "d7", "d7x")
    assert (config.fusion is Fusion.SUM) == fused_by_sum


def test_the_registry_holds_them_and_the_tiny_model():
    assert [f"efficientdet-{name}" for name in TABLE] == list(OFFICIAL_MODELS)
    assert set(MODELS) - set(OFFICIAL_MODELS) == {"efficientdet-tiny", *LITE_MODELS}


def test_wiring_of_one_cell():
    nodes = get_config("d0").cell_nodes(0)
    assert [node.level for node in nodes] == [6, 5, 4, 3, 4, 5, 6, 7]
    assert [[item.source for item in node.inputs] for node in nodes] == [
        [3, 4],
        [2, 5],
        [1, 6],
        [0, 7],
        [1, 7, 8],
        [2, 6, 9],
        [3, 5, 10],
        [4, 11],
    ]
    # P4 and P5 of the first cell come twice from the backbone, each with its own channels.
    assert [node.inputs[0].input_channels for node in nodes] == [64, 320, 112, 40, 112, 320, 64, 64]
    assert {
        item.input_channels for node in get_config("d0").cell_nodes(1) for item in node.inputs
    } == {64}


@pytest.mark.parametrize("levels", [(3, 5), (3, 8), (2, 6), (4, 7)])
def test_any_level_range_is_wired_bottom_and_top(levels):
    low, high = levels
    values = {**get_config("d0").to_dict(), "min_level": low, "max_level": high}
    nodes = EfficientDetConfig.from_dict(values).cell_nodes(1)
    expected = [*range(high - 1, low - 1, -1), *range(low + 1, high + 1)]
    assert [node.level for node in nodes] == expected
    assert {node.level for node in nodes} == set(range(low, high + 1))
    inner = [len(node.inputs) for node in nodes]
    assert inner == [2] * (high - low) + [3] * (high - low - 1) + [2]


def test_channels_never_shrink_by_more_than_a_tenth():
    assert round_channels(32, 1.0) == 32
    assert round_channels(16, 1.1) == 16
    assert round_channels(320, 1.4) == 448
    assert all(round_channels(c, w) >= 0.9 * c * w for c in (16, 24, 40) for w in (1.1, 1.3, 1.7))


def test_drop_connect_grows_with_depth():
    backbone = get_config("d4").backbone
    kept = [backbone.block_survival(index) for index in range(len(backbone.blocks))]
    assert kept[0] == 1.0
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == pytest.approx(1 - 0.2 * 31 / 32)
    assert get_config("d0").backbone.block_survival(15) is None


def test_feature_sizes_round_up():
    assert get_config("d0").feature_sizes(130, 201)[3] == (17, 26)
    assert get_config("d7x").feature_sizes(1536, 1536)[8] == (6, 6)
    assert get_config("d0").feature_sizes(1, 1)[7] == (1, 1)


@pytest.mark.parametrize("size", [(32, 512), (512, 64), (0, 5)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match="pixels"):
        get_config("d0").feature_sizes(*size)


def test_configurations_survive_as_plain_values():
    for config in MODELS.values():
        assert EfficientDetConfig.from_dict(config.to_dict()) == config
    values = get_config("d3").to_dict()
    for broken in (
        {**values, "extra": 1},
        {key: value for key, value in values.items() if key != "fusion"},
        {**values, "fusion": "no such"},
        {**values, "activation": "no such"},
        {**values, "image_size": 3},
        {**values, "num_classes": 0},
        {**values, "max_level": 3},
        {**values, "backbone_name": "resnet"},
        {**values, "fpn_channels": 10**12},
        {**values, "fpn_cells": 10**6},
        {**values, "num_scales": -1},
        {**values, "num_classes": 2.5},
        {**values, "num_classes": True},
        {**values, "max_level": 10**9},
        {**values, "name": 7},
        {**values, "anchor_scale": float("nan")},
        {**values, "anchor_scale": "4"},
        {**values, "anchor_scale": -1.0},
        {**values, "head_survival_probability": "often"},
    ):
        with pytest.raises(InputError):
            EfficientDetConfig.from_dict(broken)


def test_names_may_be_short_and_unknown_ones_list_the_known():
    assert get_config("d7x") is get_config("efficientdet-d7x")
    with pytest.raises(InputError, match="efficientdet-d0, efficientdet-d1"):
        get_config("d9")


def test_sizes_are_read_as_height_by_width():
    assert parse_size("512x640") == (512, 640)
    for text in ("", "x5", "5x", "0x4", "-3x4", "512*640", "1e3x5", "100000x5", "8193x64"):
        with pytest.raises(InputError, match="HEIGHTxWIDTH"):
            parse_size(text)
