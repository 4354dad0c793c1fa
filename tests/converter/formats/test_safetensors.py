"""Other people's safetensors files as sources."""

import numpy as np
import pytest

import efficientdet_parity as ep
from converter.fetch.sources import resolve
from converter.formats import registry
from converter.mappings.effdet import NAMING as EFFDET
from converter.mappings.state_dicts import to_naming
from efficientdet_spec import InputError, file_sha256, get_config
from torch_model.safetensors import write_safetensors


def opened(path):
    kind, place = registry.find(path)
    assert (kind.name, place) == ("safetensors", path)
    return kind.open(place)


@pytest.fixture(scope="module")
def effdet(tmp_path_factory):
    """A file such as effdet's on a hub, of a model of our sizes."""
    config = get_config("efficientdet-tiny")
    model = ep.build(config.name)
    arrays = to_naming(EFFDET, config, {n: v.numpy() for n, v in model.state_dict().items()})
    path = tmp_path_factory.mktemp("effdet") / "model.safetensors"
    write_safetensors(path, arrays.items(), {"format": "pt"})
    return path, arrays


def test_a_state_dict_of_effdets(effdet):
    path, arrays = effdet
    source = opened(path)
    assert source.naming.name == "effdet" and source.FORMAT == "safetensors"
    assert "no checksum" in source.CHECKED and source.said is None
    assert source.digests() == {"file_sha256": file_sha256(path)}
    assert source.entries.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(source.read(name), array)
        assert source.entries[name].shape == array.shape


def test_half_precision(effdet, tmp_path):
    path = tmp_path / "x.safetensors"
    arrays = {n: a.astype(np.float16) if a.dtype == np.float32 else a for n, a in effdet[1].items()}
    write_safetensors(path, arrays.items(), {})
    source = opened(path)
    assert {entry.dtype_name for entry in source.entries.values()} == {"DT_HALF", "DT_INT64"}
    assert all(np.array_equal(source.read(name), array) for name, array in arrays.items())


def test_no_model_that_is_known(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [("a", np.zeros(2, np.float32))], {"kind": "another", "seal": "x"})
    with pytest.raises(InputError, match="not the parameters of an EfficientDet"):
        opened(path)


def test_what_is_no_such_file(tiny_pth, tiny_checkpoint, tmp_path):
    path = tmp_path / "x.safetensors"
    assert registry.find(path) is None
    path.write_bytes(b"{}")
    assert registry.find(path) is None
    assert registry.find(tiny_pth)[0].name == "pth"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ],
)
def test_shards_are_told_whichever_is_given(effdet, tmp_path, given):
    items = list(effdet[1].items())
    folder = tmp_path / "model"
    folder.mkdir()
    for place, part in ((1, items[:99]), (2, items[99:])):
        write_safetensors(folder / f"model-0000{place}-of-00002.safetensors", part, {})
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(InputError, match="the 2 shards in which a model is saved") as raised:
        resolve(str(folder / given), tmp_path / "cache")
    assert "join them into one file" in str(raised.value)
    # Alone it is no model either.
    (alone := tmp_path / "x.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="lists the several shards"):
        resolve(str(alone), tmp_path / "cache")


def test_the_only_shard_is_the_model(effdet, tmp_path):
    path = tmp_path / "model-00001-of-00001.safetensors"
    path.write_bytes(effdet[0].read_bytes())
    assert opened(path).naming.name == "effdet"
