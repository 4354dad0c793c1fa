"""Candidates by name: a package's model with the checkpoint's values, or one sentence."""

import os
import sys

import numpy as np
import pytest

import compare
import efficientdet_parity as ep
from efficientdet_spec import InputError
from parity.commands.packages import package_names
from torch_model.saving import save_arrays

# A package of effdet's form. What stands in for its network has other keys than the layers in it.
STAND_IN = """
from types import SimpleNamespace

from torch import nn, tensor

from converter.mappings import effdet as keys
from converter.mappings.state_dicts import from_naming, to_naming
from efficientdet_spec import TINY
from torch_model.model import build

from . import config

{at_import}
made = []


class Settings(SimpleNamespace):
    def __getitem__(self, name):
        return getattr(self, name)


def get_efficientdet_config(name):
    values = config.model_config.efficientdet_model_param_dict[name]
    return Settings(name=name, num_classes=90, image_size=None, **values)


class EfficientDet(nn.Module):
    def __init__(self, settings, pretrained_backbone):
        super().__init__()
        assert pretrained_backbone is False
        made.append((settings.name, settings.num_classes, settings.image_size))
        self.size = settings.image_size
        {at_making}
        self.config = TINY.with_classes(settings.num_classes)
        self.inner = build(self.config).train()

    def state_dict(self):
        if not hasattr(self, "inner"):
            return super().state_dict()
        arrays = {{key: value.numpy() for key, value in self.inner.state_dict().items()}}
        named = to_naming(keys.NAMING, self.config, arrays)
        {at_keys}
        return {{key: tensor(value) for key, value in named.items()}}

    def load_state_dict(self, state):
        arrays = {{key: value.numpy() for key, value in state.items()}}
        ours = from_naming(keys.NAMING, self.config, arrays)
        self.inner.load_state_dict({{key: tensor(value) for key, value in ours.items()}})

    def forward(self, images):
        # As in effdet, the levels' sizes are fixed.
        assert tuple(images.shape[2:]) == self.size
        return self.inner({images})
"""
MODELS = """
_d0 = dict(fpn_channels=16, fpn_cell_repeats=2, box_class_repeats=2, min_level=3, max_level=7,
           num_scales=3, anchor_scale=4.0)
efficientdet_model_param_dict = dict(
    efficientdet_tiny=_d0, tf_efficientdet_tiny=_d0, tf_efficientdet_d1={**_d0, "fpn_channels": 88},
)
"""


@pytest.fixture
def effdet(tmp_path, monkeypatch):
    """Puts a stand-in for effdet where Python finds it first; its pieces of code can be chosen."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "effdet"]:
        monkeypatch.delitem(sys.modules, name)

    def install(at_import="", at_making="pass", at_keys="pass", images="images", models=MODELS):
        folder = tmp_path / "site" / "effdet"
        (folder / "config").mkdir(parents=True)
        pieces = {"at_import": at_import, "at_making": at_making, "at_keys": at_keys}
        text = STAND_IN.format(**pieces, images=images)
        (folder / "__init__.py").write_text(text)
        (folder / "config" / "__init__.py").write_text("from . import model_config")
        (folder / "config" / "model_config.py").write_text(models)
        monkeypatch.syspath_prepend(folder.parent)

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "effdet"]:
        del sys.modules[name]


@pytest.fixture
def model_file(tiny_conversion, tmp_path):
    """A reference that needs no TensorFlow: the converted model."""
    path = tmp_path / "tiny.pth"
    conversion = tiny_conversion
    save_arrays(path, conversion.config, conversion.arrays, conversion.provenance)
    return path


@pytest.fixture
def refused(tiny_checkpoint, model_file):
    def run(candidate):
        with pytest.raises(InputError) as raised:
            ep.compare(candidate, tiny_checkpoint, reference=model_file, contributions=0)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return run


def test_effdet_is_the_one_package():
    assert package_names() == ["effdet"]


def test_a_model_is_made_for_each_size_with_the_checkpoints_values(
    effdet, tiny_checkpoint, model_file
):
    effdet()
    settings = {"reference": model_file, "size": (128, 128), "contributions": 0}
    result = ep.compare("effdet:tf_efficientdet_tiny", tiny_checkpoint, **settings)
    result.assert_parity()
    assert result.record.candidate == "effdet:tf_efficientdet_tiny"
    sizes = [(item.height, item.width) for item in result.record.inputs]
    assert len(set(sizes)) == 2
    made = sys.modules["effdet"].made
    assert made == [("tf_efficientdet_tiny", 7, size) for size in sizes]


def test_a_size_that_it_cannot_be_made_for_is_told(effdet, tiny_checkpoint, model_file):
    effdet(at_making="assert self.size[0] % 2 == 0, 'even sizes'")
    settings = {"reference": model_file, "contributions": 0}
    result = ep.compare("effdet:tf_efficientdet_tiny", tiny_checkpoint, **settings)
    assert result.outcome.value == "parity"
    (note,) = [note for note in result.record.coverage.notes if "took the place" in note]
    assert "effdet cannot make tf_efficientdet_tiny for images of " in note
    assert "AssertionError: even sizes." in note
    with pytest.raises(InputError, match="for images of 97x129: AssertionError: even sizes.$"):
        ep.compare("effdet:tf_efficientdet_tiny", tiny_checkpoint, **settings, size=(97, 129))


def test_what_it_computes_otherwise_is_found(effdet, tiny_checkpoint, model_file):
    effdet(images="images * 1.01")
    settings = {"reference": model_file, "size": (64, 64), "contributions": 0}
    result = ep.compare("effdet:tf_efficientdet_tiny", tiny_checkpoint, **settings)
    assert result.outcome.value == "difference"


def test_effdet_is_not_installed(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "effdet", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refused("effdet:tf_efficientdet_d0") == (
        "effdet is not installed; install it into this environment with pip install effdet."
    )


def test_an_import_that_fails(effdet, refused):
    effdet(at_import="raise RuntimeError('operator torchvision::nms does not exist\\nmore')")
    assert refused("effdet:tf_efficientdet_d0") == (
        "effdet is installed, but importing it fails with RuntimeError: operator torchvision::nms "
        "does not exist; see that python -c 'import effdet' works in this environment."
    )


def test_another_package_of_that_name(effdet, refused):
    effdet(models="")
    assert refused("effdet:tf_efficientdet_d0") == (
        "The effdet that is installed has no list of models where 0.4.1 has one (module "
        "'effdet.config.model_config' has no attribute 'efficientdet_model_param_dict'); install "
        "that version with pip install effdet==0.4.1."
    )


@pytest.mark.parametrize(
    "name, said",
    [
        (
            "tf_efficientdet_tinny",
            "effdet has no model 'tf_efficientdet_tinny' (did you mean tf_efficientdet_tiny?); it "
            "has tf_efficientdet_d1 and others.",
        ),
        (
            "tf_efficientdet_d1",
            "effdet:tf_efficientdet_d1 is built otherwise than the checkpoint's efficientdet-tiny "
            "(fpn_channels is 88, not 16); give effdet:tf_efficientdet_tiny.",
        ),
    ],
)
def test_another_model(name, said, effdet, refused):
    effdet()
    assert refused(f"effdet:{name}") == said


@pytest.mark.parametrize(
    "at_keys, said",
    [
        (
            "named = {k: v for k, v in named.items() if not k.startswith('fpn.resample.3.')}",
            "6 missing, all under fpn.resample.3.conv.: fpn.resample.3.conv.conv.weight, "
            "fpn.resample.3.conv.conv.bias, fpn.resample.3.conv.bn.weight, ...",
        ),
        (
            # The head's batch norms by level first, as head_bn_level_first makes them.
            "named['class_net.bn_rep.4.1.bn.weight'] = named.pop('class_net.bn_rep.1.4.bn.weight')",
            "1 missing: class_net.bn_rep.1.4.bn.weight; "
            "1 unknown: class_net.bn_rep.4.1.bn.weight [16]",
        ),
        (
            "named['backbone.bn1.weight'] = named['backbone.bn1.weight'][:4]",
            "backbone.bn1.weight is [4], not [8]",
        ),
    ],
)
def test_a_model_with_other_parameters(at_keys, said, effdet, refused):
    effdet(at_keys=at_keys)
    assert refused("effdet:efficientdet_tiny") == (
        f"effdet:efficientdet_tiny is built otherwise than the checkpoint's efficientdet-tiny "
        f"({said}); give effdet:tf_efficientdet_tiny."
    )


def test_unknown_packages(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused("efdet:tf_efficientdet_d0") == (
        "No models of a package 'efdet' are known (did you mean effdet?), only of effdet; give "
        "FILE.py:FUNCTION for any other model."
    )
    (tmp_path / "port.py").touch()
    assert refused("port:build") == (
        "port:build names a package, but there is a file port.py here; for a function of it give "
        "port.py:build."
    )


def test_the_command_line(effdet, tiny_checkpoint, model_file, capsys):
    effdet()
    words = ["nodes", str(tiny_checkpoint), "--reference", str(model_file)]
    words += ["--contributions", "0", "--candidate"]
    assert compare.main([*words, "effdet:tf_efficientdet_tiny"]) == 0
    out = capsys.readouterr().out
    assert "candidate  effdet:tf_efficientdet_tiny on cpu" in out
    assert compare.main([*words, "effdet:tf_efficientdet_d1"]) == 2


def test_effdet_itself(test_data):
    pytest.importorskip("effdet", reason="effdet is not installed", exc_type=ImportError)
    images = np.random.default_rng(1).standard_normal((1, 128, 160, 3)).astype("float32")
    checkpoint = os.fspath(test_data / "checkpoints" / "efficientdet-d0")
    result = ep.compare("effdet:tf_efficientdet_d0", checkpoint, images=images, contributions=0)
    result.assert_parity()
    assert result.record.counts["not covered"] == 0
