"""``convert --backbone``, the file that it writes, and what can be done with that."""

import json

import numpy as np
import pytest
import torch

import compare
import convert
import efficientdet_parity as ep
from converter.tensorflow_files.bundle import open_bundle
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.variables import EMA
from parity.results.reading import read
from parity.results.records.conversion import ConversionResult
from torch_model.checkpoint import BACKBONE_FORMAT, load_backbone, load_checkpoint

SCOPE = "efficientnet-tiny"


@pytest.fixture(scope="module")
def classifying(tiny_checkpoint, tmp_path_factory):
    """The tiny detector's backbone with a head that classifies, as EfficientNets are released."""
    bundle = open_bundle(tiny_checkpoint / "model")
    tensors = {
        name: bundle.read(name)
        for name in bundle.index.entries
        if name.startswith(f"{SCOPE}/") or name == "global_step"
    }
    rng = np.random.default_rng(0)
    for name, shape in (
        ("conv2d/kernel", (1, 1, 32, 40)),
        ("tpu_batch_normalization/gamma", (40,)),
        ("dense/kernel", (40, 10)),
        ("dense/bias", (10,)),
    ):
        for suffix in ("", f"/{EMA}", "/RMSProp"):
            value = rng.standard_normal(shape).astype(np.float32)
            tensors[f"{SCOPE}/head/{name}{suffix}"] = value
    folder = tmp_path_factory.mktemp("classifying")
    write_bundle(folder / "model.ckpt", tensors)
    return folder


@pytest.fixture(scope="module")
def backbone(classifying, tmp_path_factory):
    path = tmp_path_factory.mktemp("backbone") / "backbone.pth"
    assert convert.main([str(classifying), str(path), "--backbone"]) == 0
    return path


def test_the_values_are_the_detectors(backbone, tiny_pth):
    model = ep.build("efficientdet-tiny", num_classes=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ep.load_backbone(model, backbone)
    whole = load_checkpoint(tiny_pth).state_dict
    changed = set()
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            changed.add(name)
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, whole[name]), name
    assert changed and all(name.startswith("backbone.") for name in changed)
    assert model.provenance["backbone"]["weights"] == "ema"


def test_it_stays_known_where_a_backbone_came_from(backbone, tmp_path):
    model = ep.build("efficientdet-tiny")
    ep.load_backbone(model, backbone)
    ep.save(model, tmp_path / "started.pth")
    again = ep.load(tmp_path / "started.pth")
    assert again.provenance["backbone"]["checkpoint_fingerprint"]
    assert torch.equal(again.backbone.stem_conv.weight, model.backbone.stem_conv.weight)


def test_raw_values_differ_from_averages(classifying, backbone, tmp_path):
    path = tmp_path / "raw.pth"
    assert convert.main([str(classifying), str(path), "--backbone", "--weights", "raw"]) == 0
    raw, average = ep.build("efficientdet-tiny"), ep.build("efficientdet-tiny")
    ep.load_backbone(raw, path)
    ep.load_backbone(average, backbone)
    assert not torch.equal(raw.backbone.stem_conv.weight, average.backbone.stem_conv.weight)


def test_the_account(classifying, tmp_path, capsys):
    result = tmp_path / "result.json"
    words = [str(classifying), str(tmp_path / "b.pth"), "--backbone", "--json", str(result)]
    assert convert.main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "efficientnet-tiny, a backbone alone" in out
    assert "4 optimizer slot (RMSProp)" in out
    assert "8 classification head, which no detector has" in out
    assert "its heads (class_net, box_net) are missing" in out
    written = read(result, ConversionResult)
    assert written.backbone == written.ledger.model == SCOPE and not written.ledger.findings
    assert "model" not in json.loads(result.read_text())
    assert convert.main([str(classifying), "--list", "--backbone"]) == 0
    assert "all values read, every CRC32C verified" in capsys.readouterr().out


def test_a_backbone_is_no_detector(classifying, backbone, tiny_checkpoint, tiny_pth, capsys):
    assert convert.main([str(classifying), "--list"]) == 2
    assert "convert the backbone with --backbone" in capsys.readouterr().err
    assert compare.main(["nodes", str(tiny_checkpoint), "--candidate", str(backbone)]) == 2
    assert "holds a backbone alone (no BiFPN, no heads)" in capsys.readouterr().err
    with pytest.raises(ep.InputError, match="expected a whole detector; .*load_backbone"):
        ep.load(backbone)
    model = ep.build("efficientdet-tiny")
    with pytest.raises(ep.InputError, match="holds a whole detector, expected a backbone alone"):
        ep.load_backbone(model, tiny_pth)
    with pytest.raises(ep.InputError, match="efficientnet-tiny, but efficientdet-d0 has effic"):
        ep.load_backbone(ep.build("efficientdet-d0"), backbone)
    with pytest.raises(ep.InputError, match="A Linear has no backbone"):
        ep.load_backbone(torch.nn.Linear(1, 1), backbone)
    with pytest.raises(ep.InputError, match="give its file to load_backbone"):
        ep.convert(tiny_checkpoint, backbone="any")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backbone", "--model", "tiny"], "--model is about a whole detector"),
        (["--backbone", "--num-classes", "3"], "--num-classes is about a whole detector"),
        (["--backbone", "--hparams", "act_type=relu"], "--hparams is about a whole detector"),
        (["--backbone", "--to", "effdet"], "--to is about a whole detector"),
        (["--backbone", "efficientnet-b0"], "holds the backbone efficientnet-tiny, not eff"),
        (["--backbone", "efficientnet"], "There is no backbone 'efficientnet'"),
    ],
)
def test_what_does_not_go_together(classifying, tmp_path, capsys, words, message):
    path = tmp_path / "b.pth"
    assert convert.main([str(classifying), str(path), *words]) == 2
    assert message in capsys.readouterr().err and not path.exists()


def test_an_official_name_is_answered_with_the_address(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert convert.main(["efficientnet-b0", "b.pth", "--backbone"]) == 2
    assert "/efficientnet/ckptsaug/efficientnet-b0.tar.gz" in capsys.readouterr().err


def swapped(content):
    state = content["state_dict"]
    state["stem_bn.weight"], state["stem_bn.bias"] = state["stem_bn.bias"], state["stem_bn.weight"]


def renamed(content):
    content["config"]["backbone_name"] = "efficientnet-b0"


def called_a_detector(content):
    content["format"] = "efficientdet-parity"


def shortened(content):
    del content["state_dict"]["stem_bn.weight"]


@pytest.mark.parametrize("change", [swapped, renamed, called_a_detector, shortened])
def test_an_altered_file_is_refused(backbone, tmp_path, change):
    content = torch.load(backbone, weights_only=True)
    assert content["format"] == BACKBONE_FORMAT
    change(content)
    torch.save(content, tmp_path / "altered.pth")
    model = ep.build("efficientdet-tiny")
    before = model.backbone.stem_conv.weight.clone()
    with pytest.raises(ep.InputError):
        load_backbone(model, tmp_path / "altered.pth")
    assert torch.equal(model.backbone.stem_conv.weight, before)
    # The same content, written again unchanged, is taken.
    torch.save(torch.load(backbone, weights_only=True), tmp_path / "same.pth")
    load_backbone(model, tmp_path / "same.pth")


def test_a_model_has_no_classes_by_the_thousand_thousand():
    with pytest.raises(ep.InputError, match="num_classes is 1000000"):
        ep.build("efficientdet-tiny", num_classes=1_000_000)
    with pytest.raises(ep.InputError, match="There is no model 'efficientdet-d9'"):
        ep.build("efficientdet-d9")
