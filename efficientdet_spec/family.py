"""The official models by name, their variants, and a tiny one for tests.

Sources: google/automl ``efficientdet/hparams_config.py``, ``efficientdet_model_param_dict`` and
``efficientdet_lite_param_dict``; for the variants ``Det-AdvProp.md`` and its notebook, and the
README's table of models with inputs of 640x640.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from efficientdet_spec.errors import Cause, InputError, did_you_mean, plain_name
from efficientdet_spec.models import EfficientDetConfig
from efficientdet_spec.operations import Activation, Fusion


def _model(
    variant: str, backbone: int, size: int, channels: int, cells: int, repeats: int, **other: Any
) -> EfficientDetConfig:
    return EfficientDetConfig(
        name=f"efficientdet-{variant}",
        backbone_name=f"efficientnet-b{backbone}",
        image_size=(size, size),
        fpn_channels=channels,
        fpn_cells=cells,
        head_repeats=repeats,
        **other,
    )


TINY = EfficientDetConfig(
    name="efficientdet-tiny",
    backbone_name="efficientnet-tiny",
    image_size=(128, 128),
    fpn_channels=16,
    fpn_cells=2,
    head_repeats=2,
    num_classes=7,
)
"""Not an official model: every mechanism of the real ones at a size for fast tests."""


def _lite(
    variant: str, backbone: int, size: int, channels: int, cells: int, repeats: int, scale: float
) -> EfficientDetConfig:
    return EfficientDetConfig(
        name=f"efficientdet-lite{variant}",
        backbone_name=f"efficientnet-lite{backbone}",
        image_size=(size, size),
        fpn_channels=channels,
        fpn_cells=cells,
        head_repeats=repeats,
        fusion=Fusion.SUM,
        activation=Activation.RELU6,
        anchor_scale=scale,
        mean_rgb=(127.0, 127.0, 127.0),
        stddev_rgb=(128.0, 128.0, 128.0),
    )


MODELS: Mapping[str, EfficientDetConfig] = MappingProxyType(
    {
        config.name: config
        for config in (
            # variant, backbone, input, channels, cells, head repeats (paper, table 1)
            _model("d0", 0, 512, 64, 3, 3),
            _model("d1", 1, 640, 88, 4, 3),
            _model("d2", 2, 768, 112, 5, 3),
            _model("d3", 3, 896, 160, 6, 4),
            _model("d4", 4, 1024, 224, 7, 4),
            _model("d5", 5, 1280, 288, 7, 4),
            _model("d6", 6, 1280, 384, 8, 5, fusion=Fusion.SUM),
            _model("d7", 6, 1536, 384, 8, 5, fusion=Fusion.SUM, anchor_scale=5.0),
            _model("d7x", 7, 1536, 384, 8, 5, fusion=Fusion.SUM, max_level=8),
            # variant, backbone, input, channels, cells, head repeats, anchor scale
            _lite("0", 0, 320, 64, 3, 3, 3.0),
            _lite("1", 1, 384, 88, 4, 3, 3.0),
            _lite("2", 2, 448, 112, 5, 3, 3.0),
            _lite("3", 3, 512, 160, 6, 4, 4.0),
            _lite("3x", 3, 640, 200, 6, 4, 3.0),
            _lite("4", 4, 640, 224, 7, 4, 4.0),
            TINY,
        )
    }
)
"""Every model by name: D0 to D7x, the lite ones, and the tiny one."""

LITE_MODELS: tuple[str, ...] = tuple(name for name in MODELS if "-lite" in name)
"""Names of the lite models."""

OFFICIAL_MODELS: tuple[str, ...] = tuple(
    name for name in MODELS if name != TINY.name and name not in LITE_MODELS
)
"""Names of the models D0 to D7x, as trained for the paper."""


def _variants(suffix: str, variants: str, **changes: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        f"efficientdet-{variant}-{suffix}": (f"efficientdet-{variant}", changes)
        for variant in variants.split()
    }


_VARIANTS = {
    # Det-AdvProp trains on grey levels of -1 to 1.
    **_variants(
        "advprop",
        "d0 d1 d2 d3 d4 d5",
        mean_rgb=(0.0, 0.0, 0.0),
        stddev_rgb=(1.0, 1.0, 1.0),
        scale_range=True,
    ),
    **_variants("640", "d2 d3 d4 d5 d6", image_size=(640, 640)),
}

VARIANTS: Mapping[str, EfficientDetConfig] = MappingProxyType(
    {
        name: replace(MODELS[base], name=name, **changes)
        for name, (base, changes) in _VARIANTS.items()
    }
)
"""Models whose variables are those of one of :data:`MODELS`, so that nothing in a checkpoint tells
which it is: trained with Det-AdvProp, or for an input of 640x640."""

FIRST_RELEASES: Mapping[str, str] = MappingProxyType(
    {f"{name}-2020-03": name for name in OFFICIAL_MODELS if name != "efficientdet-d7x"}
)
"""Names of the first release's checkpoints, with the model that each is of."""


def base_model(name: str) -> str:
    """The one of :data:`MODELS` whose variables a model has.

    Args:
        name: The full name of a model or variant.
    """
    return _VARIANTS[name][0] if name in _VARIANTS else FIRST_RELEASES.get(name, name)


def same_variables(name: str) -> tuple[str, ...]:
    """The other models and variants with the same variables, which a checkpoint may be as well.

    Args:
        name: The full name of a model or variant.
    """
    known = {**MODELS, **VARIANTS}
    base = MODELS[base_model(name)]
    twins = {
        other.name
        for other in MODELS.values()
        if replace(
            other, name=base.name, image_size=base.image_size, anchor_scale=base.anchor_scale
        )
        == base
    }
    return tuple(other for other in known if other != name and base_model(other) in twins)


def get_config(name: str) -> EfficientDetConfig:
    """The configuration called ``name``; the prefix ``efficientdet-`` may be left out.

    That of a checkpoint of the first release, ``efficientdet-d0-2020-03``, is that of its model.

    Raises:
        InputError: There is no such model; the message lists those that exist.
    """
    full = name if name.startswith("efficientdet-") else f"efficientdet-{name}"
    known = {**MODELS, **VARIANTS}
    try:
        return known[FIRST_RELEASES.get(full, full)]
    except KeyError:
        names = {**known, **FIRST_RELEASES}
        raise InputError(
            f"There is no model {name!r:.80}{did_you_mean(full_name(name), names)}; choose one of "
            f"{', '.join(MODELS)}, or a variant such as {next(iter(VARIANTS))} "
            f"(efficientdet-parity models lists all).",
            Cause.OPTION,
        ) from None


def full_name(name: str) -> str:
    """A model's name as somebody may write it, in the form of the official ones.

    It is for questions (did you mean ...?), never to take one name for another.

    Args:
        name: Such as ``D0``, ``EfficientDet-D0`` or ``tf_efficientdet_d0``.
    """
    plain = plain_name(name).removeprefix("tf-").replace("efficient-det", "efficientdet")
    bare = plain.removeprefix("efficientdet").removeprefix("-")
    return f"efficientdet-{bare}"
