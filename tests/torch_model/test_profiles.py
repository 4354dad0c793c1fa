"""Profiles: names, changes and mistakes."""

import pytest

from efficientdet_spec import InputError
from torch_model.profiles import OFFICIAL, PROFILES, STAGES, Profile, get_profile, with_stages


def test_the_named_profiles():
    assert list(PROFILES) == [
        "official",
        "official-tf-nms",
        "coco2-2020",
        "release-2020-03",
        "hparams",
        "interactive",
    ]
    assert get_profile("official") is OFFICIAL
    different = {
        name: {
            stage: variant
            for stage, variant in profile.stages().items()
            if variant != OFFICIAL.stages()[stage]
        }
        for name, profile in PROFILES.items()
    }
    assert different == {
        "official": {},
        "official-tf-nms": {"nms": "tf-soft"},
        "coco2-2020": {"aspects": "pairs"},
        "release-2020-03": {"resize": "legacy", "aspects": "pairs", "nms": "hard"},
        "hparams": {"selection": "model", "nms": "model"},
        "interactive": {
            "normalisation": "exported",
            "selection": "model",
            "nms": "exported",
            "scope": "global",
            "clipping": "input",
        },
    }


def test_every_stage_has_a_field_and_every_variant_a_description():
    assert list(STAGES) == list(OFFICIAL.stages())
    assert all(text for variants in STAGES.values() for text in variants.values())


def test_the_reference_knows_the_same_official_stages():
    detection = pytest.importorskip("reference_tf.detection")
    assert dict(detection.OFFICIAL_STAGES) == OFFICIAL.stages()


def test_changes_are_stated_in_the_name():
    changed = with_stages(OFFICIAL, {"nms": "hard", "resize": "half-pixel"})
    assert changed.nms == "hard" and changed.resize == "half-pixel"
    assert changed.name == "official nms=hard"
    assert OFFICIAL.nms == "evaluation"
    assert changed.to_dict() == {
        "name": "official nms=hard",
        **OFFICIAL.stages(),
        "nms": "hard",
    }
    assert with_stages(OFFICIAL, {}) == OFFICIAL


def test_mistakes_list_what_there_is():
    with pytest.raises(InputError, match="no profile 'offical'; choose one of official, "):
        get_profile("offical")
    with pytest.raises(InputError, match="no stage 'nsm'; choose one of decode, "):
        with_stages(OFFICIAL, {"nsm": "hard"})
    with pytest.raises(InputError, match="nms has no variant 'soften'; choose one of evaluation, "):
        with_stages(OFFICIAL, {"nms": "soften"})
    with pytest.raises(InputError, match="resize has no variant 'area'"):
        Profile("mine", resize="area")
