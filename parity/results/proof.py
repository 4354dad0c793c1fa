"""Which published comparison with TensorFlow stands for one that does not run it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from efficientdet_spec import (
    LITE_MODELS,
    OFFICIAL_MODELS,
    EfficientDetConfig,
    base_model,
    get_config,
)


@dataclass(frozen=True)
class Published:
    """Pages of a comparison at full size with TensorFlow, which come with this project.

    Attributes:
        folder: Where they are in it.
        version: Version that made them, as each of them says.
        models: What they are of.
    """

    folder: str
    version: str
    models: tuple[str, ...]


PUBLISHED = (
    Published("reports/published", "0.3.0", OFFICIAL_MODELS),
    Published("reports/published_lite", "0.5.0", LITE_MODELS),
)
"""All of them."""

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
    if not any(name in pages.models for pages in PUBLISHED):
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
    for pages in PUBLISHED:
        if name in pages.models:
            return (
                f"that its graph computes this function is shown by the published comparison of "
                f"{name} ({pages.folder}, made with version {pages.version}; docs/proof.md)"
            )
    return (
        "no published comparison covers this model, so compare it once without --reference exact "
        "where TensorFlow is installed"
    )
