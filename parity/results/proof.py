"""Which published comparison with TensorFlow stands for one that does not run it."""

from __future__ import annotations

from dataclasses import replace

from efficientdet_spec import OFFICIAL_MODELS, EfficientDetConfig, base_model, get_config

PUBLISHED_VERSION = "0.3.0"
"""Version that made the pages in ``reports/published``, each of which says so."""

PUBLISHED_MODELS = OFFICIAL_MODELS
"""Models that have a page in ``reports/published``."""

_FREE = (
    "name",
    "image_size",
    "num_classes",
    "label_map",
    "anchor_scale",
    "aspect_ratios",
    "mean_rgb",
    "stddev_rgb",
    "scale_range",
    "suppression",
)
"""What may be otherwise in a model that a published comparison stands for: no operation of the
network is another one for it."""


def published_for(config: EfficientDetConfig) -> str | None:
    """The model whose published comparison covers a network; None where there is none.

    Args:
        config: The network's model.
    """
    name = base_model(config.name)
    if name not in PUBLISHED_MODELS:
        return None
    official = get_config(name)
    alike = replace(config, **{field: getattr(official, field) for field in _FREE})
    # Anchors of another number would be other widths, of other shapes no operation knows.
    return name if alike == official and config.num_anchors == official.num_anchors else None


def proof_of(config: EfficientDetConfig) -> str:
    """A sentence, without a capital, on what shows that TensorFlow computes this function too.

    Args:
        config: The model.
    """
    name = published_for(config)
    if name is not None:
        return (
            f"that its graph computes this function is shown by the published comparison of "
            f"{name} (reports/published, made with version {PUBLISHED_VERSION}; docs/proof.md)"
        )
    return (
        "no published comparison covers this model, so compare it once without --reference exact "
        "where TensorFlow is installed"
    )
