"""Which published comparison with TensorFlow stands for one that does not run it."""

from __future__ import annotations

from dataclasses import replace

from efficientdet_spec import OFFICIAL_MODELS, EfficientDetConfig, get_config

PUBLISHED_VERSION = "0.3.0"
"""Version that made the pages in ``reports/published``, each of which says so."""

_FREE = ("image_size", "num_classes", "anchor_scale")
"""What may be otherwise in a model that a published comparison stands for: no operation of the
network is another one for it."""


def proof_of(config: EfficientDetConfig) -> str:
    """A sentence, without a capital, on what shows that TensorFlow computes this function too.

    Args:
        config: The model.
    """
    if config.name in OFFICIAL_MODELS:
        official = get_config(config.name)
        alike = replace(config, **{name: getattr(official, name) for name in _FREE})
        if alike == official:
            return (
                f"that its graph computes this function is shown by the published comparison of "
                f"{config.name} (reports/published, made with version {PUBLISHED_VERSION}; "
                f"docs/proof.md)"
            )
    return (
        "no published comparison covers this model, so compare it once without --reference exact "
        "where TensorFlow is installed"
    )
