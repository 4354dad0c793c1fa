"""Hyperparameters from the file to every command and every verdict."""

import json
import tarfile

import pytest
import torch

import compare
import convert
import efficientdet_parity as ep
from efficientdet_spec import CONFIG_FILE, InputError

OWN = (
    "act_type=relu6,anchor_scale=0.25,aspect_ratios=[[1.4,0.7],[1.0,1.0],[0.7,1.4],[2.0,0.5]],"
    "min_level=2,image_size=160x96,num_classes=1,survival_prob=0.8,fpn_weight_method=attn"
)
"""Of each kind one: the tensors show some of these and not the others."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A checkpoint of the tiny model as it is."""
    folder = tmp_path_factory.mktemp("plain") / "tiny"
    assert compare.main(["seed", "efficientdet-tiny", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A checkpoint of another network, with what it is beside it."""
    folder = tmp_path_factory.mktemp("own") / "tiny"
    assert compare.main(["seed", "efficientdet-tiny", str(folder), "--hparams", OWN]) == 0
    return folder


@pytest.fixture
def copied(plain, tmp_path):
    """A copy of the plain checkpoint, to put a config.yaml beside."""
    import shutil

    return shutil.copytree(plain, tmp_path / "tiny")


def converted(source, target, *options):
    assert convert.main([str(source), str(target), *map(str, options)]) == 0
    return torch.load(target, weights_only=True)


def refusal(capsys, *arguments):
    assert convert.main(list(map(str, arguments))) == 2
    text = capsys.readouterr().err
    assert len(text) < 1024
    return text


def test_what_lies_beside_a_checkpoint_goes_into_the_pth(own, tmp_path, capsys):
    found = converted(own, tmp_path / "own.pth")
    config = found["config"]
    assert config["activation"] == "relu6" and config["anchor_scale"] == 0.25
    assert config["image_size"] == [96, 160] and config["num_classes"] == 1
    assert config["min_level"] == 2 and config["num_aspects"] == 4
    assert config["head_survival_probability"] == 0.8 and config["fusion"] == "attn"
    record = found["provenance"]["hyperparameters"]
    assert record["source"] == ["config.yaml"] and record["given"]["act_type"] == "relu6"
    assert set(record["assumed"]) == {
        "num_scales",
        "mean_rgb",
        "stddev_rgb",
        "scale_range",
        "fpn_name",
        "conv_after_downsample",
        "nms_configs",
    }
    printed = " ".join(capsys.readouterr().out.split())
    assert f"hyperparameters {record['sentence']}" in printed
    assert ep.load(tmp_path / "own.pth").config.to_dict() == config


def test_without_a_file_everything_is_assumed_and_said(plain, tmp_path, capsys):
    record = converted(plain, tmp_path / "plain.pth")["provenance"]["hyperparameters"]
    assert record["source"] == [] and record["given"] == {}
    assert "hyperparameters assumed: swish, BiFPN, fast attention, 1x1" in capsys.readouterr().out


def test_the_option_says_it_as_the_file_does(own, copied, tmp_path):
    (own / CONFIG_FILE).rename(tmp_path / "away.yaml")
    try:
        for text in (OWN, str(tmp_path / "away.yaml")):
            found = converted(own, tmp_path / "asked.pth", "--hparams", text)
            assert found["config"]["anchor_scale"] == 0.25
            assert found["provenance"]["hyperparameters"]["source"] == ["--hparams"]
    finally:
        (tmp_path / "away.yaml").rename(own / CONFIG_FILE)


def test_the_option_counts_in_place_of_the_file(copied, tmp_path, capsys):
    (copied / CONFIG_FILE).write_text("act_type: relu6\nanchor_scale: 2.0\nfoo: 1\n")
    found = converted(copied, tmp_path / "o.pth", "--hparams", "anchor_scale=0.5")
    assert (found["config"]["activation"], found["config"]["anchor_scale"]) == ("relu6", 0.5)
    printed = " ".join(capsys.readouterr().out.split())
    assert "note: --hparams is taken in place of config.yaml's anchor_scale 2.0." in printed
    assert "note: config.yaml has foo" in printed


def test_an_archive_brings_its_file(own, tmp_path):
    archive = tmp_path / "own.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(own, "tiny")
        tar.add(own / CONFIG_FILE, "elsewhere/config.yaml")
    found = converted(archive, tmp_path / "o.pth", "--cache", tmp_path / "cache")
    assert found["config"]["anchor_scale"] == 0.25


def test_the_listing_says_it_and_its_result(own, tmp_path, capsys):
    path = tmp_path / "list.json"
    assert convert.main([str(own), "--list", "--json", str(path)]) == 0
    record = json.loads(path.read_text())["ledger"]["hyperparameters"]
    assert record["version"] == 1 and record["sentence"].startswith("from config.yaml: ")


@pytest.mark.parametrize(
    "text, words",
    [
        ("act_typ=relu6", "did you mean act_type?"),
        ("act_type", "key=value pairs"),
        ("act_type=srelu", "--hparams: act_type is 'srelu'"),
        ("data_format=channels_first", "says data_format"),
        ("num_classes=5", "num_classes"),
        ("fpn_num_filters=24", "fpn_num_filters"),
        ("name=efficientdet-d0", "efficientdet-tiny"),
        ("aspect_ratios=1*2*3*4", "aspect_ratios"),
        ("none.yaml", "none.yaml cannot be read"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(text, words, plain, tmp_path, capsys):
    target = tmp_path / "o.pth"
    assert words in refusal(capsys, plain, target, "--hparams", text)
    assert not target.exists()


def test_a_damaged_file_is_not_passed_over(copied, tmp_path, capsys):
    (copied / CONFIG_FILE).write_text("act_type: !!python/object/apply:os.system [ls]\n")
    assert "is no YAML file of plain values" in refusal(capsys, copied, tmp_path / "o.pth")


def test_seeding_leaves_no_other_models_file(copied, capsys):
    (copied / CONFIG_FILE).write_text("act_type: relu6\n")
    assert compare.main(["seed", "efficientdet-tiny", str(copied)]) == 2
    assert "would be read as this checkpoint's hyperparameters" in capsys.readouterr().err


FINDS = ["--contributions", "0", "--diagnose", "0"]
"""Whether something differs, and no more."""


def nodes(tmp_path, *arguments):
    """The exit code and the result of a comparison."""
    path = tmp_path / "nodes.json"
    code = compare.main(
        ["nodes", *map(str, arguments), "--size", "96x96", *FINDS, "--json", str(path)]
    )
    return code, json.loads(path.read_text())


def test_another_network_is_parity_as_what_it_is(own, tmp_path, capsys):
    pytest.importorskip("tensorflow")
    code, found = nodes(tmp_path, own)
    differing = {node["verdict"] for node in found["nodes"]} - {"exact", "rounding"}
    assert differing <= {"not covered"} and code in (0, 3)
    record = found["checkpoint"]["hyperparameters"]
    assert record["sentence"].startswith("from config.yaml: act_type relu6, anchor_scale 0.25")
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Hyperparameters {record['sentence']}." in printed
    assert found["coverage"]["assumed"] == [
        "BiFPN",
        "1x1 convolutions before pools",
        "num_scales 3",
        "mean/std ImageNet",
        "no scale_range",
        "default nms_configs",
    ]


def test_a_candidate_of_another_activation_differs(own, tmp_path):
    pytest.importorskip("tensorflow")
    other = tmp_path / "other.pth"
    converted(own, other, "--hparams", "act_type=swish")
    # As a module: a .pth says what it is.
    found = ep.compare(ep.load(other), own, size=(96, 96), contributions=0, diagnose=0)
    assert not found.passes


def test_a_pth_of_other_hyperparameters_is_refused(own, plain, tmp_path, capsys):
    target = tmp_path / "plain.pth"
    converted(plain, target)
    arguments = ["nodes", str(plain), "--candidate", str(target), "--size", "96x96"]
    assert compare.main([*arguments, "--hparams", "anchor_scale=0.25"]) == 2
    assert "anchor_scale" in capsys.readouterr().err


def test_the_api_takes_a_mapping(plain):
    model = ep.convert(plain, hparams={"act_type": "relu6", "aspect_ratios": [1.0, 3.0, 0.3]})
    assert model.config.activation.value == "relu6"
    assert model.config.aspect_ratios == (1.0, 3.0, 0.3)
    assert model.provenance["hyperparameters"]["source"] == ["--hparams"]
    with pytest.raises(InputError, match="did you mean act_type"):
        ep.convert(plain, hparams={"act_typ": "relu6"})


def test_a_trace_has_it(own, tmp_path):
    pytest.importorskip("tensorflow")
    from parity.traces.reader import open_trace

    path = tmp_path / "own.h5"
    assert compare.main(["record", str(own), str(path), "--size", "96x96"]) == 0
    record = open_trace(path).header.checkpoint["hyperparameters"]
    assert record["given"]["act_type"] == "relu6"


def test_shards_of_other_hyperparameters_are_others(plain):
    from converter.conversion import convert as read
    from converter.fetch.sources import resolve
    from converter.hparams.given import Hyperparameters
    from parity.commands.detecting.detection import Detection
    from torch_model.profiles import get_profile

    def manifest(text):
        files = resolve(str(plain), plain / "cache")
        given = Hyperparameters.of(files.prefix, text)
        setup = Detection(
            conversion=read(files, hyperparameters=given),
            prefix=files.prefix,
            profile=get_profile("official"),
            size=(96, 96),
            weights="ema",
            device="cpu",
            threads=1,
            batch=1,
        )
        return setup.manifest("torch", ("numpy",))

    made = [manifest(text) for text in (None, "anchor_scale=1", "act_type=relu", "num_classes=7")]
    assert "hyperparameters" not in made[0] and made[0] == made[3]
    assert made[1]["hyperparameters"] == {"anchor_scale": 1.0}
    assert made[2]["hyperparameters"] == {"activation": "relu"}
