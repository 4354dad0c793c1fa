"""Profiles: which variant of each stage turns an image into detections.

The official code did not stay the same, and each of these choices moves boxes or scores. A result
therefore always states its profile. Where the variant is the model's own, what that is stands in
:class:`torch_model.surroundings.Surroundings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from efficientdet_spec import Cause, InputError

MAX_CANDIDATES = 5000
"""Predictions that enter NMS in an evaluation (official ``MAX_DETECTION_POINTS``, which
``max_nms_inputs`` is set to)."""

STAGES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "decode": MappingProxyType(
            {
                "fast-dct": "JPEG with the fast integer DCT, TensorFlow's default",
                "accurate-dct": "JPEG with the accurate integer DCT, as OpenCV and Pillow",
            }
        ),
        "normalisation": MappingProxyType(
            {
                "model": "(x - mean_rgb) / stddev_rgb of the model before the resize, padding 0; "
                "with its scale_range then x * 2 / 255 - 1, which makes the padding -1",
                "exported": "the same without scale_range, which the official export ignores",
                "imagenet": "mean and deviation of ImageNet, as of D0 to D7x",
                "advprop": "mean 0, deviation 1 and scale_range, as of models of AdvProp",
                "lite": "mean 127 and deviation 128, as of the lite models",
            }
        ),
        "resize": MappingProxyType(
            {
                "half-pixel": "bilinear, pixel centres at halves (since July 2020)",
                "legacy": "bilinear of TensorFlow 1, no half-pixel shift",
            }
        ),
        "aspects": MappingProxyType(
            {
                "model": "the model's aspect_ratios: a ratio r has the sides sqrt(r) and "
                "1 / sqrt(r), a pair is taken as it is (since September 2020)",
                "sqrt": "the same of a model that has no pairs: anchors of equal area",
                "pairs": "anchor sides 1.4 and 0.7, with which the coco2 models were trained, in "
                "the place of the aspect_ratios 1, 2 and 0.5",
            }
        ),
        "selection": MappingProxyType(
            {
                "top-5000": "the 5000 highest logits of all anchors and classes",
                "max-per-anchor": "the best class of each anchor",
                "model": "max_nms_inputs of the model's nms_configs; 0: as max-per-anchor",
            }
        ),
        "nms": MappingProxyType(
            {
                "evaluation": "the model's nms_configs as model, where they are its own; else soft",
                "model": "the model's nms_configs: the NumPy code with pyfunc, or else the op",
                "exported": "the op with the model's nms_configs, which ignores pyfunc",
                "soft": "NumPy soft NMS, Gaussian of sigma 0.5, areas +1 pixel",
                "tf-soft": "the op NonMaxSuppressionV5 with soft_nms_sigma 0.25",
                "hard": "NumPy hard NMS, IoU 0.5, areas +1 pixel",
                "tf-hard": "the op NonMaxSuppressionV5 without a sigma, IoU 0.5",
            }
        ),
        "scope": MappingProxyType(
            {
                "per-class": "boxes suppress others of their class",
                "global": "boxes suppress others of any class",
            }
        ),
        "clipping": MappingProxyType(
            {
                "none": "boxes may reach out of the image",
                "input": "boxes are clipped to the network's input",
            }
        ),
    }
)
"""The variants of each stage and what they do."""


@dataclass(frozen=True)
class Profile:
    """One variant of each stage; :data:`STAGES` says what they do.

    Attributes:
        name: What results call it.
        decode: How a JPEG becomes pixels.
        normalisation: How grey levels become the network's input.
        resize: How the image is scaled to the input.
        aspects: The anchors' sides.
        selection: Which predictions become candidates.
        nms: Which suppression they undergo.
        scope: Which boxes suppress each other.
        clipping: Whether boxes end at the border.
    """

    name: str
    decode: str = "fast-dct"
    normalisation: str = "model"
    resize: str = "half-pixel"
    aspects: str = "model"
    selection: str = "top-5000"
    nms: str = "evaluation"
    scope: str = "per-class"
    clipping: str = "none"

    def __post_init__(self) -> None:
        """Check that each stage has a known variant.

        Raises:
            InputError: A variant does not exist; the message lists those that do.
        """
        for stage, variant in self.stages().items():
            if variant not in STAGES[stage]:
                raise InputError(
                    f"Stage {stage} has no variant {variant!r:.80}; choose one of "
                    f"{', '.join(STAGES[stage])}.",
                    Cause.OPTION,
                )

    def stages(self) -> dict[str, str]:
        """The variant of each stage by the stage's name, in order."""
        return {field.name: getattr(self, field.name) for field in fields(self)[1:]}

    def to_dict(self) -> dict[str, str]:
        """Name and stages as plain values for a result file."""
        return {"name": self.name, **self.stages()}


OFFICIAL = Profile("official")
"""The evaluation of today's official code for the model's hyperparameters.

It honours every one of ``nms_configs`` but ``max_nms_inputs``, which it sets to 5000. A model with
the default ``nms_configs`` is evaluated with the NumPy soft NMS, which gave the published figures;
today's default, ``pyfunc: false``, is the profile ``official-tf-nms``.
"""

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            OFFICIAL,
            # The same evaluation with TensorFlow's op, which is not equivalent.
            Profile("official-tf-nms", nms="tf-soft"),
            # Google's list of the coco2 checkpoints with D7x dates from July 2020, the month in
            # which the resize changed, and before the anchors did in September. That their AP was
            # taken with half-pixel centres is an assumption; resize=legacy is the alternative.
            Profile("coco2-2020", aspects="pairs"),
            # March 2020: TensorFlow 1's resize, the pairs, hard NMS until June.
            Profile("release-2020-03", resize="legacy", aspects="pairs", nms="hard"),
            # tf2/postprocess.py as the model's nms_configs are, max_nms_inputs among them, class
            # by class.
            Profile("hparams", selection="model", nms="model"),
            # The official interactive path, as in exported models.
            Profile(
                "interactive",
                normalisation="exported",
                selection="model",
                nms="exported",
                scope="global",
                clipping="input",
            ),
        )
    }
)
"""Every named profile."""


def get_profile(name: str) -> Profile:
    """The profile called ``name``.

    Raises:
        InputError: There is none; the message lists those that exist.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise InputError(
            f"There is no profile {name!r:.80}; choose one of {', '.join(PROFILES)}.",
            Cause.OPTION,
        ) from None


def with_stages(profile: Profile, changes: Mapping[str, str]) -> Profile:
    """The profile with other variants of some stages; its name states what differs.

    Args:
        profile: Where to start.
        changes: Variant by stage, as in ``{"nms": "hard"}``.

    Raises:
        InputError: A stage or variant does not exist.
    """
    unknown = [stage for stage in changes if stage not in STAGES]
    if unknown:
        raise InputError(
            f"There is no stage {unknown[0]!r:.80}; choose one of {', '.join(STAGES)}.",
            Cause.OPTION,
        )
    stages = profile.stages()
    differing = [
        f"{stage}={variant}" for stage, variant in changes.items() if stages[stage] != variant
    ]
    return replace(profile, **changes, name=" ".join([profile.name, *differing]))
