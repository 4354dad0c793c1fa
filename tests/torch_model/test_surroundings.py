"""The stages around the network follow the model: Google's values under every hyperparameter."""

from dataclasses import replace

import hparam_cases as golden
import numpy as np
import pytest

from efficientdet_spec import InputError, Suppression, get_config
from torch_model.anchors import PAIR_ASPECTS, SQRT_ASPECTS, make_anchors
from torch_model.postprocess import Outputs, postprocess
from torch_model.preprocess import ADVPROP, IMAGENET, LITE, Normalisation, preprocess_with_scale
from torch_model.profiles import OFFICIAL, PROFILES, get_profile, with_stages
from torch_model.surroundings import SuppressionValues, Surroundings

OWN = replace(get_config("d0"), aspect_ratios=(1.0, 1.3, 0.6), anchor_scale=0.25)


@pytest.mark.parametrize("name", sorted(golden.ANCHORS.keys() - set(golden.UNBUILT)))
def test_official_anchors_bit_for_bit(name):
    case = golden.ANCHORS[name]
    config, size = golden.anchor_config(case)
    anchors = make_anchors(config, *size)
    assert len(anchors) == case["rows"] and config.num_anchors == case["per_location"]
    assert (anchors[case["idx"]] == np.array(case["val"], np.float32)).all()
    assert anchors.sum(0, dtype=np.float64).tolist() == case["sums"]


@pytest.mark.parametrize("name", golden.UNBUILT)
def test_anchors_without_a_network_are_refused(name):
    with pytest.raises(InputError, match="cannot be built|cannot process"):
        config, size = golden.anchor_config(golden.ANCHORS[name])
        make_anchors(config, *size)


@pytest.mark.parametrize("name", golden.PREPROCESSING)
def test_official_pixels_bit_for_bit(name):
    case = golden.PREPROCESSING[name]
    config = golden.pixel_config(case)
    how = Surroundings.of(config, OFFICIAL).normalisation
    found = preprocess_with_scale(golden.picture(case), *case["size"], normalisation=how)
    assert golden.same_pixels(found.pixels, found.scale, case)
    # Every other family's is seen.
    for other in (IMAGENET, ADVPROP, LITE):
        if other != how:
            wrong = preprocess_with_scale(golden.picture(case), *case["size"], normalisation=other)
            assert not golden.same_pixels(wrong.pixels, wrong.scale, case)


CASES = sorted(name for name, case in golden.POSTPROCESSING["cases"].items() if "error" not in case)


def detections(config, path, own):
    logits, codes, size = golden.outputs()
    around = Surroundings.of(replace(config, suppression=own), get_profile(golden.PATHS[path]))
    scale = np.float32(golden.POSTPROCESSING["image_scale"])
    anchors = make_anchors(config, *size, around.aspects)
    return postprocess(Outputs(logits, codes), anchors, size, scale, around)


def check(found, case):
    assert len(found.scores) == case["valid"]
    rows = np.array(case["rows"]).reshape(-1, 6)
    assert (found.categories[case["places"]] == rows[:, 5]).all()
    # As of the official detections under the default hyperparameters.
    np.testing.assert_allclose(found.boxes[case["places"]], rows[:, :4], rtol=0, atol=2.4e-4)
    np.testing.assert_allclose(found.scores[case["places"]], rows[:, 4], rtol=0, atol=2.4e-7)
    assert found.scores.sum(dtype=np.float64) == pytest.approx(case["score_sum"], abs=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_official_detections(name):
    case, path = golden.POSTPROCESSING["cases"][name], name.rpartition("/")[2]
    own = golden.suppression(case["hparams"], path)
    check(detections(golden.suppression_config(), path, own), case)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sigma_0.3/numpy", {"sigma": None}),
        ("sigma_0.3/per_class", {"sigma": None}),
        ("hard_iou_0.3/global", {"iou_thresh": None}),
        ("hard/numpy", {"method": "gaussian"}),
        ("score_0.75/per_class", {"score_thresh": None}),
        ("out_10/numpy", {"max_output_size": 100}),
        ("topk_2000/per_class", {"max_nms_inputs": 0}),
    ],
)
def test_an_option_that_is_not_honoured_is_seen(name, changes):
    case, path = golden.POSTPROCESSING["cases"][name], name.rpartition("/")[2]
    own = replace(golden.suppression(case["hparams"], path), **changes)
    with pytest.raises(AssertionError):
        check(detections(golden.suppression_config(), path, own), case)


def test_the_evaluation_honours_all_but_the_number_of_candidates():
    plain = Surroundings.of(get_config("d0"), OFFICIAL)
    assert plain.suppression == SuppressionValues("numpy", "gaussian", None, 0.5, 0.001)
    own = Suppression(method="hard", iou_thresh=0.6, score_thresh=0.2, max_nms_inputs=7)
    around = Surroundings.of(replace(get_config("d0"), suppression=own), OFFICIAL)
    assert around.max_nms_inputs == 5000
    assert around.suppression == SuppressionValues("tensorflow", "hard", 0.6, None, 0.2)
    numpy = replace(own, pyfunc=True, max_output_size=20)
    around = Surroundings.of(replace(get_config("d0"), suppression=numpy), OFFICIAL)
    assert around.suppression == SuppressionValues("numpy", "hard", 0.6, None, None, 20)
    around = Surroundings.of(
        replace(get_config("d0"), suppression=numpy), get_profile("interactive")
    )
    assert around.max_nms_inputs == 7 and around.suppression.implementation == "tensorflow"


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_is_what_the_model_says(name):
    """The whole pipelines, whose mistakes are looked for, suppress as the detector does."""
    pytest.importorskip("parity")
    from parity.pipelines import running
    from parity.pipelines.stages.pipeline import Pipeline
    from parity.pipelines.stages.resizing import geometry
    from parity.pipelines.stages.selecting import Predictions

    case, path = golden.POSTPROCESSING["cases"][name], name.rpartition("/")[2]
    own = golden.suppression(case["hparams"], path)
    config = replace(golden.suppression_config(), suppression=own)
    logits, codes, size = golden.outputs()
    pipeline = Pipeline.of(Surroundings.of(config, get_profile(golden.PATHS[path])))
    place = geometry(*size, size, "truncate", "corner")
    predictions = Predictions.of(Outputs(logits, codes))
    anchors = make_anchors(config, *size)
    these = running.candidates(pipeline, predictions, anchors, place, size).kept(pipeline)
    expected = detections(config, path, own)
    scale = np.float32(golden.POSTPROCESSING["image_scale"])
    assert (these.boxes * scale == expected.boxes).all()
    assert (these.scores == expected.scores).all() and (these.classes == expected.classes).all()


def test_methods_of_numpy_alone():
    with pytest.raises(InputError, match="linear, which the official code has with pyfunc alone"):
        Suppression(method="linear")
    config = replace(get_config("d0"), suppression=Suppression(method="diou", pyfunc=True))
    assert Surroundings.of(config, OFFICIAL).suppression.iou_thresh == 0.5
    with pytest.raises(InputError, match="diou, which the official code has with pyfunc alone"):
        Surroundings.of(config, get_profile("interactive"))


def test_each_family_has_its_normalisation():
    advprop = replace(
        get_config("d0"), mean_rgb=(0.0,) * 3, stddev_rgb=(1.0,) * 3, scale_range=True
    )
    for config, how in (
        (get_config("d0"), IMAGENET),
        (get_config("lite0"), LITE),
        (advprop, ADVPROP),
    ):
        assert Surroundings.of(config, OFFICIAL).normalisation == how
    for slug, how in (("imagenet", IMAGENET), ("advprop", ADVPROP), ("lite", LITE)):
        profile = with_stages(OFFICIAL, {"normalisation": slug})
        assert Surroundings.of(advprop, profile).normalisation == how
    exported = Surroundings.of(advprop, get_profile("interactive")).normalisation
    assert exported == Normalisation((0.0,) * 3, (1.0,) * 3, scale_range=False)


@pytest.mark.parametrize("name", PROFILES)
def test_own_aspects_win(name):
    profile = get_profile(name)
    if profile.aspects == "pairs":
        with pytest.raises(InputError, match=r"aspect_ratios 1.0, 1.3, 0.6, .*give aspects=model"):
            Surroundings.of(OWN, profile)
        assert Surroundings.of(get_config("lite0"), profile).aspects == PAIR_ASPECTS
    else:
        assert Surroundings.of(OWN, profile).aspects[1] == pytest.approx((1.3**0.5, 1.3**-0.5))
        assert Surroundings.of(get_config("d0"), profile).aspects == SQRT_ASPECTS


def test_pairs_are_taken_as_they_are():
    own = replace(get_config("d0"), aspect_ratios=((2.0, 0.25), (1.0, 3.0)))
    assert Surroundings.of(own, OFFICIAL).aspects == ((2.0, 0.25), (1.0, 3.0))
    for variant in ("sqrt", "pairs"):
        with pytest.raises(InputError, match=f"aspects={variant} would replace"):
            Surroundings.of(own, with_stages(OFFICIAL, {"aspects": variant}))
    # The same sides, said by the model and by the profile.
    same = replace(get_config("d0"), aspect_ratios=PAIR_ASPECTS)
    assert Surroundings.of(same, get_profile("coco2-2020")).aspects == PAIR_ASPECTS


def test_both_frameworks_refuse_the_same_aspects():
    detection = pytest.importorskip("reference_tf.detection")
    pairs = replace(get_config("d0"), aspect_ratios=((2.0, 0.25), (1.0, 3.0)))
    for config in (get_config("d0"), get_config("lite0"), OWN, pairs):
        for variant in ("model", "sqrt", "pairs"):
            stages = OFFICIAL.stages() | {"aspects": variant}
            try:
                ours = Surroundings.of(config, with_stages(OFFICIAL, {"aspects": variant})).aspects
            except InputError:
                with pytest.raises(InputError):
                    detection.make_anchors(config, 128, 128, stages)
            else:
                theirs = detection.make_anchors(config, 128, 128, stages)
                assert (make_anchors(config, 128, 128, ours) == theirs).all()
