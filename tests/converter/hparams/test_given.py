"""What was given where, what counts, and what is said of it."""

import os
from dataclasses import replace

import pytest

import compare
from converter.hparams.given import NOTHING, Hyperparameters
from efficientdet_spec import CONFIG_FILE, MODELS, TINY, Activation, InputError, get_config


@pytest.fixture
def beside(tmp_path):
    """Writes a config.yaml beside a checkpoint; gives the checkpoint's prefix."""

    def write(text):
        (tmp_path / CONFIG_FILE).write_text(text)
        return tmp_path / "model"

    return write


def test_nothing_is_assumed_in_silence():
    assert NOTHING.sentence(TINY) == (
        "assumed: swish, BiFPN, fast attention, 1x1 convolutions before pools, anchors 4.0 x (1, "
        "2, 0.5) x 3, mean/std ImageNet, no scale_range, no survival_prob, image_size 128x128, "
        "default nms_configs (no config.yaml)"
    )


def test_of_sums_and_adv_prop_the_models_own_values_are_said():
    assert "fast attention" not in NOTHING.sentence(get_config("efficientdet-d6"))
    assert "grey levels to -1..1" in NOTHING.sentence(get_config("efficientdet-d0-advprop"))
    assert "mean_rgb 127, stddev_rgb 128" in NOTHING.sentence(get_config("efficientdet-lite0"))


def test_a_file_beside_a_checkpoint_counts(beside):
    given = Hyperparameters.of(beside("act_type: relu6\nanchor_scale: 0.25\nlearning_rate: 0.1\n"))
    config = given.applied(TINY)
    assert (config.activation, config.anchor_scale) == (Activation.RELU6, 0.25)
    assert given.sentence(config) == (
        "from config.yaml: act_type relu6, anchor_scale 0.25; assumed: BiFPN, fast attention, 1x1 "
        "convolutions before pools, aspect_ratios (1, 2, 0.5), num_scales 3, mean/std ImageNet, no "
        "scale_range, no survival_prob, image_size 128x128, default nms_configs"
    )
    record = given.record(config)
    assert record["source"] == ["config.yaml"]
    assert record["given"] == {"act_type": "relu6", "anchor_scale": 0.25}
    assert record["ignored"] == {"learning_rate": 0.1}
    assert set(record["assumed"]) == {
        "fpn_weight_method",
        "aspect_ratios",
        "num_scales",
        "mean_rgb",
        "stddev_rgb",
        "survival_prob",
        "image_size",
        "scale_range",
        "fpn_name",
        "conv_after_downsample",
        "nms_configs",
    }


def test_scales_of_each_level_go_by_the_levels_of_the_variables():
    given = replace(Hyperparameters.of(None, "anchor_scale=1*2*3*4"), levels=(3, 6))
    assert given.applied(TINY).anchor_scales == (1, 2, 3, 4)
    # What is given counts, and what cannot be built changes nothing.
    told = "anchor_scale=1*2*3*4*5*6,min_level=2"
    assert replace(Hyperparameters.of(None, told), levels=(3, 7)).applied(TINY).min_level == 2
    assert replace(NOTHING, levels=(9, 2)).applied(TINY) == TINY


def test_a_variants_file_has_the_name_of_its_model(beside):
    given = Hyperparameters.of(beside("name: efficientdet-d0\n"))
    variant = "efficientdet-d0-advprop"
    assert given.from_file(variant) == variant
    assert given.from_file("efficientdet-d1-advprop") is given.from_file(None) is None
    # Whoever asks for the model gets the model.
    assert Hyperparameters.of(None, "name=efficientdet-d0").from_file(variant) is None


def test_a_value_impossible_everywhere_is_of_no_model():
    with pytest.raises(InputError) as raised:
        Hyperparameters.of(None, "num_scales=0").models(None)
    assert str(raised.value).startswith("--hparams: num_scales is 0; give")


def test_what_is_asked_for_counts_in_place_of_the_file_key_by_key(beside):
    text = "act_type: relu6\nanchor_scale: 2.0\nnms_configs: {sigma: 0.3, method: gaussian}\n"
    given = Hyperparameters.of(beside(text), "anchor_scale=0.25,nms_configs.sigma=0.4")
    config = given.applied(TINY)
    assert (config.activation, config.anchor_scale) == (Activation.RELU6, 0.25)
    assert (config.suppression.sigma, config.suppression.method) == (0.4, "gaussian")
    assert given.record(config)["source"] == ["config.yaml", "--hparams"]
    assert given.sentence(config).startswith(
        "from config.yaml: act_type relu6; from --hparams: anchor_scale 0.25, nms_configs"
    )
    assert given.notes == (
        "--hparams is taken in place of config.yaml's anchor_scale 2.0, nms_configs (sigma 0.3, "
        "method gaussian).",
    )


def test_a_file_as_of_the_option(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("image_size: !!python/tuple [96, 160]\nsteps_per_epoch: 5\n")
    given = Hyperparameters.of(None, str(path))
    assert given.applied(TINY).image_size == (96, 160)
    assert given.ignored == {"steps_per_epoch": 5}
    with pytest.raises(InputError, match="cannot be read"):
        Hyperparameters.of(None, str(tmp_path / "none.yaml"))


def test_a_text_of_an_image_size_is_width_times_height():
    assert Hyperparameters.of(None, "image_size=160x96").applied(TINY).image_size == (96, 160)
    with pytest.raises(InputError, match="WIDTHxHEIGHT .*--size is HxW"):
        Hyperparameters.of(None, "image_size=160*96")


def test_unknown_keys(beside):
    given = Hyperparameters.of(beside("act_typ: relu6\nanchor_scale: 1\nfoo.bar: 1\n"))
    assert given.notes == (
        "config.yaml has act_typ (did you mean act_type?), foo.bar, which are no hyperparameters "
        "of EfficientDet.",
    )
    assert set(given.given) == {"anchor_scale"}
    with pytest.raises(InputError, match=r"--hparams has act_typ \(did you mean act_type\?\)"):
        Hyperparameters.of(None, "act_typ=relu6")
    with pytest.raises(InputError, match="--hparams has model_dir"):
        Hyperparameters.of(None, "model_dir=/tmp/x")


@pytest.mark.parametrize("text", ["=3", " =3", ".sigma=1", "act_type=relu6,=3"])
def test_an_empty_key_is_named(text):
    with pytest.raises(InputError, match="^--hparams has an empty key, which is no official"):
        Hyperparameters.of(None, text)


def test_an_unknown_key_in_a_file_that_is_asked_for_is_a_mistake(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("anchor_scales: 1\n")
    with pytest.raises(InputError, match="did you mean anchor_scale"):
        Hyperparameters.of(None, str(path))


@pytest.mark.parametrize(
    "text, words",
    [
        ("heads=object_detection*segmentation", "segmentation is not"),
        ("heads=segmentation", "segmentation is not"),
        ("data_format=channels_first", "only channels_last"),
        ("mixed_precision=true", "give --hparams mixed_precision=false"),
    ],
)
def test_what_is_refused_is_so_by_name(text, words, beside):
    key = text.partition("=")[0]
    with pytest.raises(InputError, match=f"--hparams says {key} .*{words}"):
        Hyperparameters.of(None, text)


def test_what_a_file_has_and_is_refused_can_be_given_otherwise(beside):
    prefix = beside("mixed_precision: true\n")
    with pytest.raises(InputError, match="config.yaml says mixed_precision True"):
        Hyperparameters.of(prefix)
    Hyperparameters.of(prefix, "mixed_precision=false")


def test_the_usual_values_of_these_are_taken(beside):
    Hyperparameters.of(beside("heads: [object_detection]\nmixed_precision: null\n"))
    Hyperparameters.of(None, "heads=object_detection,data_format=channels_last")
    Hyperparameters.of(None, "heads=['object_detection'],mixed_precision=false")


def test_the_name_is_that_of_a_model(beside):
    prefix = beside("name: efficientdet-d7\n")
    assert Hyperparameters.of(prefix).named() == MODELS["efficientdet-d7"]
    assert Hyperparameters.of(prefix).named("d7") == MODELS["efficientdet-d7"]
    with pytest.raises(InputError, match="says name efficientdet-d7, but efficientdet-d6 is asked"):
        Hyperparameters.of(prefix).named("efficientdet-d6")
    given = Hyperparameters.of(prefix, "name=efficientdet-d6")
    assert given.named("efficientdet-d6") == MODELS["efficientdet-d6"]


def test_a_name_of_a_variant(beside):
    prefix = beside("name: efficientdet-d0\n")
    found = Hyperparameters.of(prefix).named("efficientdet-d0-advprop")
    assert found == get_config("efficientdet-d0-advprop")


def test_a_name_that_is_almost_one_is_refused_and_another_is_told_of(beside):
    with pytest.raises(InputError, match="config.yaml: There is no model 'efficientdet-d00'"):
        Hyperparameters.of(beside("name: efficientdet-d00\n")).named()
    given = Hyperparameters.of(beside("name: my-model\n"))
    assert given.named() is None
    assert "my-model is none of the models" in given.notes[0]
    with pytest.raises(InputError, match="says name 5"):
        Hyperparameters.of(beside("name: 5\n"))


def test_a_whole_configuration_is_one_model_whatever_the_name_is_not(beside):
    d3 = get_config("efficientdet-d3")
    text = (
        "backbone_name: efficientnet-b3\nimage_size: 896\nfpn_num_filters: 160\n"
        "fpn_cell_repeats: 6\nbox_class_repeats: 4\nmin_level: 3\nmax_level: 7\nact_type: swish\n"
        "anchor_scale: 4.0\nmean_rgb: [123.675, 116.28, 103.53]\nfpn_weight_method: null\n"
        "stddev_rgb: [58.395, 57.120000000000005, 57.375]\nnum_classes: 90\n"
    )
    given = Hyperparameters.of(beside(text))
    assert given.models(None) == (d3,)
    assert "13 values as of efficientdet-d3" in given.sentence(d3)


def test_a_value_that_no_model_takes(beside):
    with pytest.raises(InputError, match="config.yaml: .*min_level|config.yaml: .*levels"):
        Hyperparameters.of(beside("min_level: 7\n")).models(None)


def test_a_label_map_is_read_only_beside_its_file(beside, tmp_path):
    outside = tmp_path.parent / "outside.yaml"
    outside.write_text("{1: secret}")
    prefix = beside(f"label_map: {outside}\n")
    given = Hyperparameters.of(prefix)
    assert given.applied(TINY).label_map == ()
    assert given.notes == ("label_map names outside.yaml, which is not beside config.yaml.",)
    (tmp_path / "outside.yaml").write_text("{1: cat}")
    assert Hyperparameters.of(prefix).applied(TINY).label_map == ((1, "cat"),)
    asked = Hyperparameters.of(None, f"label_map={outside}")
    assert asked.applied(TINY).label_map == ((1, "secret"),)


def test_a_label_map_has_to_fit_the_classes(beside):
    """How many there are is known only with the checkpoint."""
    given = Hyperparameters.of(beside("label_map: {8: c0, 9: c2}\n"))
    for config in (TINY, MODELS["efficientdet-d0"]):
        named = given.applied(config)
        if config.num_classes > 7:
            given.require(named, "model")
            continue
        with pytest.raises(InputError, match=r"^config.yaml: label_map has the id 8 \('c0'\), but"):
            given.require(named, "model")


def test_no_seed_with_names_of_other_classes(tmp_path, capsys):
    text = "num_classes=2,label_map={1:'a',3:'b'}"
    assert compare.main(["seed", "tiny", str(tmp_path / "new"), "--hparams", text]) == 2
    assert "--hparams: label_map has the id 3 ('b'), but the model has 2" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["[1, 2]", "5", "act_type"])
def test_a_file_of_something_else_is_refused(text, beside):
    with pytest.raises(InputError, match="holds no mapping of hyperparameters"):
        Hyperparameters.of(beside(text))


def test_an_empty_file_gives_nothing(beside):
    given = Hyperparameters.of(beside(""))
    assert given.applied(TINY) == TINY
    assert "(no config.yaml)" not in given.sentence(TINY)


def test_a_link_that_leads_nowhere_is_told_of(tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / CONFIG_FILE)
    with pytest.raises(InputError, match="cannot be read"):
        Hyperparameters.of(tmp_path / "model")


def test_what_is_written_for_a_model_gives_that_model(beside):
    text = (
        "act_type=relu6,anchor_scale=1*2*3*4*5*6,aspect_ratios=[[1.4,0.7],[1.0,1.0]],min_level=2,"
        "image_size=160x96,nms_configs.sigma=0.3,survival_prob=0.8,num_classes=1"
    )
    given = Hyperparameters.of(None, text)
    config = given.applied(TINY)
    again = Hyperparameters.of(beside(given.file_text(config)))
    assert again.named() == config


def test_the_sentence_is_one_printable_line(beside):
    given = Hyperparameters.of(beside('backbone_name: "a\\nb\\e[31m"\nname: "x\\ny"\n'))
    told = given.sentence(TINY)
    assert told.isprintable()
    assert all(note.isprintable() for note in given.notes)
