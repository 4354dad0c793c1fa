"""An AP is judged by the published ones only where it is the same quantity."""

import json

import pytest

from efficientdet_spec import OFFICIAL_MODELS
from parity.coco.published import HALF_A_DIGIT, PUBLISHED, against_published
from parity.results.records.record import plain
from parity.results.records.shared import Weights


def judge(ap, model="efficientdet-d3", **changes):
    conditions = {"images": 5000, "weights": Weights.EMA, "native_size": True} | changes
    return against_published(model, ap, **conditions)


def test_every_official_model_has_a_figure():
    assert tuple(PUBLISHED) == tuple(OFFICIAL_MODELS)
    assert (
        against_published("mine", 0.5, images=5000, weights=Weights.EMA, native_size=True) is None
    )


@pytest.mark.parametrize(
    ("ap", "verdict"),
    [
        (0.468, "agrees"),
        (0.4684, "agrees"),
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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 80}, "80 images instead of the 5000"),
        ({"weights": Weights.RAW}, "not the moving averages"),
        ({"native_size": False}, "another input size"),
        ({"ap": None}, "no AP"),
    ],
)
def test_another_quantity_is_not_compared(changes, reason):
    found = judge(**{"ap": 0.468, **changes})
    assert found.verdict == "not comparable" and reason in found.text


def test_the_files_are_googles(test_data):
    for model, rows in PUBLISHED.items():
        for row in rows:
            name = row.source.rpartition("/")[2].split()[0]
            if name.endswith(".txt"):
                text = (test_data / "official" / name).read_text()
                assert f"'AP': {row.ap:.8g}" in text, (model, name)
