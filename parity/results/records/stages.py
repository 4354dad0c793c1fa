"""What was done around the network, in plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from parity.results.records.record import Count, Record, says


class NmsValues(Record, kw_only=True, frozen=True):
    """What became of overlapping boxes."""

    implementation: Annotated[
        str, says("`numpy`: the official NumPy code, or `tensorflow`: the op NonMaxSuppressionV5")
    ]
    method: Annotated[str, says("`gaussian` or `linear` (soft NMS), `hard` or `diou`")]
    iou_thresh: Annotated[
        float | None,
        says("overlap above which a box is dropped, or lowered if linear; null if gaussian"),
    ]
    sigma: Annotated[
        float | None,
        says("width of the Gaussian, of which the op is given half; null where there is none"),
    ]
    score_thresh: Annotated[float | None, says("scores below it are dropped; null: none are")]
    max_output_size: Annotated[Count, says("most boxes of an image")]


class StageValues(Record, kw_only=True, frozen=True):
    """The numbers of the stages around the network."""

    mean_rgb: Annotated[
        Sequence[float], says("subtracted from grey levels", min_length=3, max_length=3)
    ]
    stddev_rgb: Annotated[
        Sequence[float], says("what the difference was divided by", min_length=3, max_length=3)
    ]
    scale_range: Annotated[
        bool, says("whether `x * 2 / 255 - 1` followed after the padding, which so became -1")
    ]
    levels: Annotated[
        Sequence[Count],
        says("lowest and highest level that has anchors", min_length=2, max_length=2),
    ]
    anchor_scales: Annotated[
        Sequence[float], says("side of an anchor of each level at octave 0, in strides")
    ]
    num_scales: Annotated[Count, says("sizes of an anchor within an octave")]
    aspects: Annotated[
        Sequence[Sequence[float]],
        says("of each aspect, what the side was multiplied with to be width and height"),
    ]
    max_nms_inputs: Annotated[
        Count,
        says("so many of the highest logits were candidates; 0: the best class of each anchor"),
    ]
    nms: Annotated[NmsValues, says("what became of overlapping boxes")]

    @classmethod
    def of(cls, values: dict[str, Any]) -> StageValues:
        """Of what :meth:`torch_model.surroundings.Surroundings.to_dict` gives."""
        return cls(**{**values, "nms": NmsValues(**values["nms"])})

    def told(self) -> str:
        """One line for people."""
        mean, deviation = _listed(self.mean_rgb), _listed(self.stddev_rgb)
        shift = ", then x * 2 / 255 - 1" if self.scale_range else ""
        sides = ", ".join("x".join(f"{side:.4g}" for side in sides) for sides in self.aspects)
        top, nms = self.max_nms_inputs, self.nms
        chosen = f"the {top} highest logits" if top else "the best class of each anchor"
        numbers = {"IoU": nms.iou_thresh, "sigma": nms.sigma, "least score": nms.score_thresh}
        limits = ", ".join(f"{name} {x:g}" for name, x in numbers.items() if x is not None)
        which = "NumPy code" if nms.implementation == "numpy" else "TensorFlow's op"
        return (
            f"pixels (x - {mean}) / {deviation}{shift}; anchors of P{self.levels[0]} to "
            f"P{self.levels[1]}: scale {_listed(self.anchor_scales)}, {self.num_scales} sizes, "
            f"sides {sides}; {chosen}; {nms.method} NMS by {which} ({limits}), at most "
            f"{nms.max_output_size} boxes"
        )


def _listed(values: Sequence[float]) -> str:
    """One number where all are the same."""
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"
