"""The AP that Google publishes for each model on COCO's val2017, and what ours says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from efficientdet_spec import OFFICIAL_MODELS
from efficientdet_spec.releases import (
    AP_TEST_DEV,
    FINGERPRINTS,
    RELEASES,
    Release,
    archive_address,
    release_at,
    release_of_content,
)
from parity.results.records.coco import Agreement, PublishedFigure, PublishedResult
from parity.results.records.shared import Checkpoint, Weights

VAL_IMAGES = 5000
"""Images of COCO val2017; an AP over fewer is another quantity."""

VAL_BOXES = 36335
"""Their true boxes, without those that stand for crowds."""

HALF_A_DIGIT = 0.0005
"""An AP published as 34.3 lies between 34.25 and 34.35; ours must lie there too, or that near a
figure published with more digits.

Nothing is added to it. The JPEG decoder would be worth 0.004, but the profiles below decode with
TensorFlow's own integer DCT, bit for bit; and versions of TensorFlow differ by roundings, which
moved no metric of 80 images by 0.000001 between the official code's run and ours."""

PROFILES = ("official", "coco2-2020")
"""The official code's own evaluation, as it is today and as it was when the figures of D0 to D7x
were published. Which of the two made them is not said; they differ in the anchors' sides. Those of
the first release have a profile of their own."""


def _figures(release: Release) -> tuple[PublishedFigure, ...]:
    stated = [] if release.ap_val is None else [PublishedFigure(release.ap_source, release.ap_val)]
    return (*stated, *([PublishedFigure(*release.ap_val_file)] if release.ap_val_file else []))


PUBLISHED: Mapping[str, tuple[PublishedFigure, ...]] = MappingProxyType(
    {name: rows for name, release in RELEASES.items() if (rows := _figures(release))}
)
"""Every figure on val2017 for each release. Where Google's own disagree (D3), both are given."""


@dataclass(frozen=True)
class Measured:
    """An AP and what it was measured on.

    Attributes:
        ap: Of one framework, from 0 to 1; None where it is not defined.
        images: How many went into it.
        true_boxes: How many there were to be found.
        profile: Name of the variants of the stages around the network.
        native_size: Whether the network's input had the model's own size.
        checkpoint: What the network was filled from.
        own: A hyperparameter that is not the official one; None where there is none.
    """

    ap: float | None
    images: int
    true_boxes: int
    profile: str
    native_size: bool
    checkpoint: Checkpoint
    own: str | None = None


def against_published(model: str, measured: Measured) -> PublishedResult | None:
    """Judge an AP by the published ones; it says nothing about parity, which is judged by itself.

    Args:
        model: The model's name.
        measured: The AP, and what it was measured on.

    Returns:
        None for a model of which nothing is published.

    Raises:
        InputError: The environment variable for downloads names no address.
    """
    name = _name_of(model, measured.checkpoint)
    rows = PUBLISHED.get(name)
    if rows is None:
        return None
    assumed = _assumed(name, measured.checkpoint)
    reasons = _other_quantity(measured, profiles_of(name))
    if assumed is None:
        reasons.append("a checkpoint that is not known to be the published one")
    if measured.ap is None or assumed is None or reasons:
        figures = _listed(rows)
        text = f"not comparable with the published {figures}: {', '.join(reasons)}"
        return _result(name, Agreement.NOT_COMPARABLE, text, rows, measured.ap)
    return _judged(name, measured.ap, measured.profile, rows, assumed)


def _name_of(model: str, checkpoint: Checkpoint) -> str:
    """Of which release's figures an AP is to be judged by: the first one has today's models."""
    found = release_of_content(checkpoint.fingerprint) or release_at(checkpoint.source)
    return found.name if found is not None and found.model == model else model


def profiles_of(name: str) -> tuple[str, ...]:
    """Profiles of which one made a release's figures.

    Args:
        name: The release's official name.
    """
    own = RELEASES[name].profile
    return PROFILES if own is None else (own,)


def _other_quantity(measured: Measured, profiles: Sequence[str]) -> list[str]:
    """Why an AP is not of what the published ones are of."""
    reasons = []
    if measured.images != VAL_IMAGES:
        reasons.append(f"{measured.images} images instead of the {VAL_IMAGES} of val2017")
    elif measured.true_boxes != VAL_BOXES:
        reasons.append(f"{measured.true_boxes} true boxes instead of the {VAL_BOXES} of val2017")
    if measured.checkpoint.weights is not Weights.EMA:
        reasons.append("weights that are not the moving averages")
    if not measured.native_size:
        reasons.append("another input size")
    if measured.own is not None:
        reasons.append(f"a model with {measured.own} of its own")
    if measured.profile not in profiles:
        reasons.append(f"the profile {measured.profile} instead of {' or '.join(profiles)}")
    if measured.ap is None:
        reasons.append("no AP")
    return reasons


def _assumed(name: str, checkpoint: Checkpoint) -> list[str] | None:
    """What is taken for granted of a checkpoint if it is to be the published one.

    Returns:
        Nothing where its content is known; None where it cannot be taken for the published one.
    """
    if checkpoint.fingerprint == FINGERPRINTS.get(name):
        return []
    address = archive_address(name)
    if checkpoint.source != address:
        return None
    if name in FINGERPRINTS:
        # Google has replaced files under the same name before.
        return [f"that {address} is a later release of the published checkpoint"]
    return [f"that {address}, whose content is not known here, is the published checkpoint"]


def _judged(
    name: str, ap: float, profile: str, rows: Sequence[PublishedFigure], assumed: Sequence[str]
) -> PublishedResult:
    nearest = min(rows, key=lambda row: abs(row.ap - ap))
    distance = ap - nearest.ap
    # What was rounded to half a digit exactly is not to fail by the roundings of this difference.
    agrees = round(abs(distance), 9) <= HALF_A_DIGIT
    verdict = Agreement.AGREES if agrees else Agreement.DIFFERS
    text = (
        f"AP {ap:.5f} {verdict.value}: {distance:+.5f} from {nearest.ap:.5g} ({nearest.source}), "
        f"of at most {HALF_A_DIGIT}; published: {_listed(rows)}"
    )
    if not agrees and name in OFFICIAL_MODELS and profile != PROFILES[-1]:
        text += f"; the figures are of 2020, try --profile {PROFILES[-1]}"
    text += "".join(f"; assumed: {item}" for item in assumed)
    return _result(name, verdict, text, rows, ap, assumed)


def _listed(rows: Sequence[PublishedFigure]) -> str:
    return ", ".join(f"{row.ap:.5g} ({row.source})" for row in rows)


def _result(
    name: str,
    verdict: Agreement,
    text: str,
    rows: Sequence[PublishedFigure],
    ap: float | None,
    assumed: Sequence[str] = (),
) -> PublishedResult:
    return PublishedResult(
        ap=ap,
        rows=rows,
        limit=HALF_A_DIGIT,
        verdict=verdict,
        text=text,
        assumed=assumed,
        test_dev=AP_TEST_DEV[name],
    )
