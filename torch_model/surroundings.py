"""What a profile does around one model's network, in plain values.

A profile may say "as the model says"; here that becomes the model's own numbers, which are what
computes and what results state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from efficientdet_spec import ASPECT_RATIOS, Cause, EfficientDetConfig, InputError, Suppression
from torch_model.anchors import PAIR_ASPECTS, Factors, aspect_factors
from torch_model.nms import HARD_IOU, LINEAR_IOU, MAX_DETECTIONS, SOFT_SIGMA, SOFT_THRESHOLD
from torch_model.preprocess import ADVPROP, IMAGENET, LITE, Normalisation
from torch_model.profiles import MAX_CANDIDATES, Profile


@dataclass(frozen=True)
class SuppressionValues:
    """A non-maximum suppression with every number that it uses.

    Attributes:
        implementation: ``numpy``, the official NumPy code, or ``tensorflow``, the op
            NonMaxSuppressionV5.
        method: One of :data:`efficientdet_spec.suppression.METHODS`.
        iou_thresh: Overlap above which hard NMS drops a box and linear NMS lowers its score; None
            for a Gaussian.
        sigma: Width of soft NMS's Gaussian, as in the paper; None where there is none.
        score_thresh: Soft NMS and the op drop scores below it; None: none are.
        max_output_size: Most boxes of an image.
    """

    implementation: str
    method: str
    iou_thresh: float | None
    sigma: float | None
    score_thresh: float | None
    max_output_size: int = MAX_DETECTIONS

    @classmethod
    def of(cls, configured: Suppression, *, numpy: bool) -> SuppressionValues:
        """A model's ``nms_configs`` with the official code's own numbers where it leaves them open.

        Zero is taken for open too, as Python's ``or`` does it there. NumPy's hard NMS knows no
        score threshold.

        Args:
            configured: The model's.
            numpy: Whether the NumPy code runs, or else the op.

        Raises:
            InputError: The op has no such method.
        """
        if not numpy:
            # Said there.
            configured = replace(configured, pyfunc=False)
        implementation = "numpy" if numpy else "tensorflow"
        limit = configured.max_output_size
        method = configured.method
        if method in ("hard", "diou"):
            least = None if numpy else configured.score_thresh or None
            iou = configured.iou_thresh or HARD_IOU
            return cls(implementation, method, iou, None, least, limit)
        if method == "linear":
            iou, least = configured.iou_thresh or LINEAR_IOU, configured.score_thresh
            return cls(implementation, method, iou, None, least or SOFT_THRESHOLD, limit)
        sigma = configured.sigma or SOFT_SIGMA
        least = configured.score_thresh or SOFT_THRESHOLD
        return cls(implementation, "gaussian", None, sigma, least, limit)


def _evaluation(configured: Suppression) -> SuppressionValues:
    return _model(configured) if configured != Suppression() else _FIXED["soft"]


def _model(configured: Suppression) -> SuppressionValues:
    return SuppressionValues.of(configured, numpy=configured.pyfunc)


def _exported(configured: Suppression) -> SuppressionValues:
    return SuppressionValues.of(configured, numpy=False)


_FIXED: Mapping[str, SuppressionValues] = MappingProxyType(
    {
        "soft": SuppressionValues("numpy", "gaussian", None, SOFT_SIGMA, SOFT_THRESHOLD),
        "tf-soft": SuppressionValues("tensorflow", "gaussian", None, SOFT_SIGMA, SOFT_THRESHOLD),
        "hard": SuppressionValues("numpy", "hard", HARD_IOU, None, None),
        "tf-hard": SuppressionValues("tensorflow", "hard", HARD_IOU, None, None),
    }
)

_OF_MODEL: Mapping[str, Callable[[Suppression], SuppressionValues]] = MappingProxyType(
    {"evaluation": _evaluation, "model": _model, "exported": _exported}
)


@dataclass(frozen=True)
class Surroundings:
    """The stages around one model's network.

    Attributes:
        profile: Of which these are the values; decoding, resize, scope and clipping have no others.
        normalisation: How grey levels become the network's input.
        aspects: (width, height) factor of each of an anchor's aspects.
        anchor_scales: Side of an anchor of each level at octave 0, in strides.
        num_scales: Sizes into which an octave is divided.
        levels: Lowest and highest level that has anchors.
        max_nms_inputs: So many of the highest logits are candidates; 0: the best class of each
            anchor is.
        suppression: What becomes of overlapping boxes.
    """

    profile: Profile
    normalisation: Normalisation
    aspects: tuple[Factors, ...]
    anchor_scales: tuple[float, ...]
    num_scales: int
    levels: tuple[int, int]
    max_nms_inputs: int
    suppression: SuppressionValues

    @classmethod
    def of(cls, config: EfficientDetConfig, profile: Profile) -> Surroundings:
        """What a profile is for a model.

        Raises:
            InputError: The profile has other anchors than a model with aspects of its own.
        """
        normalisation = {
            "model": Normalisation.of(config),
            "exported": Normalisation(config.mean_rgb, config.stddev_rgb),
            "imagenet": IMAGENET,
            "advprop": ADVPROP,
            "lite": LITE,
        }[profile.normalisation]
        candidates = {
            "top-5000": MAX_CANDIDATES,
            "max-per-anchor": 0,
            "model": config.suppression.max_nms_inputs,
        }[profile.selection]
        chosen = profile.nms
        suppression = _FIXED[chosen] if chosen in _FIXED else _OF_MODEL[chosen](config.suppression)
        return cls(
            profile=profile,
            normalisation=normalisation,
            aspects=_aspects(config, profile.aspects),
            anchor_scales=config.anchor_scales,
            num_scales=config.num_scales,
            levels=(config.min_level, config.max_level),
            max_nms_inputs=candidates,
            suppression=suppression,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a result file."""
        how, nms = self.normalisation, self.suppression
        return {
            "mean_rgb": list(how.mean_rgb),
            "stddev_rgb": list(how.stddev_rgb),
            "scale_range": how.scale_range,
            "levels": list(self.levels),
            "anchor_scales": list(self.anchor_scales),
            "num_scales": self.num_scales,
            "aspects": [list(factors) for factors in self.aspects],
            "max_nms_inputs": self.max_nms_inputs,
            "nms": dict(vars(nms)),
        }


def _aspects(config: EfficientDetConfig, variant: str) -> tuple[Factors, ...]:
    own = aspect_factors(config.aspect_ratios)
    default = config.aspect_ratios == ASPECT_RATIOS
    paired = any(isinstance(aspect, tuple) for aspect in config.aspect_ratios)
    if variant == "pairs" and default:
        return PAIR_ASPECTS
    if (variant == "pairs" and own != PAIR_ASPECTS) or (variant == "sqrt" and paired):
        listed = ", ".join(map(str, config.aspect_ratios))
        raise InputError(
            f"{config.name} was trained with the aspect_ratios {listed:.200}, which the variant "
            f"aspects={variant} would replace by others; give aspects=model, or a profile that has "
            f"it, such as official.",
            Cause.OPTION,
        )
    return own
