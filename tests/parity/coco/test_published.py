"""An AP is judged by the published ones only where it is the same quantity."""

import json
from dataclasses import replace

import pytest
from msgspec import structs

from efficientdet_spec import FIRST_RELEASES, OFFICIAL_MODELS, VARIANTS
from efficientdet_spec.releases import FINGERPRINTS, archive_address
from parity.coco.published import HALF_A_DIGIT, PUBLISHED, Measured, against_published
from parity.results.records.record import plain
from parity.results.records.shared import Checkpoint, Weights

ADVPROP = [name for name in VARIANTS if name.endswith("-advprop")]
KNOWN = Checkpoint("somewhere", FINGERPRINTS["efficientdet-d3"], Weights.EMA)
MEASURED = Measured(
    ap=0.468,
    images=5000,
    true_boxes=36335,
    profile="coco2-2020",
    native_size=True,
    checkpoint=KNOWN,
)


def judge(ap=0.468, model="efficientdet-d3", **changes):
    return against_published(model, replace(MEASURED, ap=ap, **changes))


def test_every_release_with_a_figure_on_val2017_has_it_here():
    assert tuple(PUBLISHED)[: len(OFFICIAL_MODELS)] == tuple(OFFICIAL_MODELS)
    assert set(PUBLISHED) == {*OFFICIAL_MODELS, *FIRST_RELEASES, *ADVPROP}
    # Of the others no page says on which images.
    for model in ("mine", "efficientdet-d3-640", "efficientdet-lite0"):
        assert judge(model=model) is None


def test_a_variants_figure_is_its_own():
    checkpoint = Checkpoint(archive_address("efficientdet-d3-advprop"), "f" * 64, Weights.EMA)
    assert judge(0.477, "efficientdet-d3-advprop", checkpoint=checkpoint).verdict == "agrees"
    found = judge(0.468, "efficientdet-d3-advprop", checkpoint=checkpoint, profile="official")
    assert found.verdict == "differs" and "0.477 (Det-AdvProp.md)" in found.text
    # Its figures are of 2021.
    assert "--profile" not in found.text


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("somewhere", FINGERPRINTS["efficientdet-d4-2020-03"], Weights.EMA),
        Checkpoint(archive_address("efficientdet-d4-2020-03"), "f" * 64, Weights.EMA),
    ],
    ids=["content", "address"],
)
def test_the_first_release_is_judged_by_its_own_figures_and_profile(checkpoint):
    own = {"checkpoint": checkpoint, "profile": "release-2020-03"}
    assert judge(0.48985, "efficientdet-d4", **own).verdict == "agrees"
    assert judge(0.493, "efficientdet-d4", **own).verdict == "differs"
    other = judge(0.48985, "efficientdet-d4", checkpoint=checkpoint, profile="official")
    assert other.verdict == "not comparable" and "instead of release-2020-03" in other.text


@pytest.mark.parametrize(
    ("ap", "verdict"),
    [
        (0.468, "agrees"),
        (0.4684, "agrees"),
        (0.4685, "agrees"),
        (0.4675, "agrees"),
        (0.4716, "agrees"),
        (0.4690, "differs"),
        (0.4674, "differs"),
        (0.4721, "differs"),
    ],
)
def test_either_of_two_figures_will_do(ap, verdict):
    found = judge(ap)
    assert found.verdict == verdict
    assert "0.468 (README)" in found.text and "0.47152" in found.text
    values = json.loads(json.dumps(plain(found)))
    assert values["AP"] == ap and len(values["rows"]) == 2 and values["limit"] == HALF_A_DIGIT
    assert values["test_dev_AP"] == 0.472 and values["assumed"] == []


def test_the_first_releases_figure_is_not_the_second_ones():
    """Google's file on D4 is of the checkpoint of March 2020, which another one has replaced."""
    official = Checkpoint(archive_address("efficientdet-d4"), "f" * 64, Weights.EMA)
    assert judge(0.48985, "efficientdet-d4", checkpoint=official).verdict == "differs"
    assert judge(0.4931, "efficientdet-d4", checkpoint=official).verdict == "agrees"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 80}, "80 images instead of the 5000"),
        ({"images": 4999}, "4999 images instead of the 5000"),
        ({"true_boxes": 36334}, "36334 true boxes instead of the 36335"),
        ({"checkpoint": structs.replace(KNOWN, weights=Weights.RAW)}, "not the moving averages"),
        ({"native_size": False}, "another input size"),
        ({"own": "anchor_scale"}, "a model with anchor_scale of its own"),
        ({"profile": "official-tf-nms"}, "the profile official-tf-nms instead of official or"),
        ({"profile": "official nms=hard"}, "the profile official nms=hard instead of"),
        ({"checkpoint": structs.replace(KNOWN, fingerprint="f" * 64)}, "not known to be the pub"),
        ({"ap": None}, "no AP"),
    ],
)
def test_another_quantity_is_not_compared(changes, reason):
    found = judge(**changes)
    assert found.verdict == "not comparable" and reason in found.text


def test_the_content_of_another_model_is_not_this_ones():
    other = structs.replace(KNOWN, fingerprint=FINGERPRINTS["efficientdet-d2"])
    assert judge(checkpoint=other).verdict == "not comparable"


def test_an_official_name_is_taken_at_its_word_and_that_is_said(monkeypatch):
    for model, ap, words in (
        ("efficientdet-d5", 0.512, "whose content is not known here, is the published checkpoint"),
        ("efficientdet-d3", 0.468, "is a later release of the published checkpoint"),
    ):
        official = Checkpoint(archive_address(model), "f" * 64, Weights.EMA)
        found = judge(ap, model, checkpoint=official)
        assert found.verdict == "agrees" and words in found.text
        assert len(found.assumed) == 1 and found.assumed[0] in found.text
        assert judge(ap, model, checkpoint=structs.replace(official, source="a/copy")).verdict == (
            "not comparable"
        )
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", "https://mirror/folder")
    assert judge(0.512, "efficientdet-d5", checkpoint=official).verdict == "not comparable"
    mirrored = structs.replace(official, source="https://mirror/folder/efficientdet-d5.tar.gz")
    found = judge(0.512, "efficientdet-d5", checkpoint=mirrored)
    assert found.verdict == "agrees" and "that https://mirror/folder" in found.text


def test_a_difference_under_todays_anchors_names_those_of_the_publication():
    assert "try --profile coco2-2020" in judge(0.5, profile="official").text
    assert "--profile" not in judge(0.5).text
    assert "--profile" not in judge(0.468, profile="official").text
