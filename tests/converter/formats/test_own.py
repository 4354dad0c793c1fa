"""Files of this project, as targets and as sources: bit for bit, or refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from configurations import CONFIGURATIONS

import efficientdet_parity as ep
from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from converter.formats import registry
from converter.formats.own import NAMING as OWN
from converter.formats.target import Values
from converter.mappings.official import iterate_pairs
from efficientdet_spec import EMA_SUFFIX, MODELS, TINY, InputError
from torch_model.model_file import SafetensorsModel, is_own, seal_of, value_of
from torch_model.safetensors import SafetensorsFile, write_safetensors

ROOT = Path(__file__).parents[3]
KINDS = ("pth", "safetensors")
BOTH = {"weights": "both", "licence": "none", "notes": ["ü\n"]}


def made(config, seed):
    """Values of a model, among them some that only bits tell apart."""
    rng = np.random.default_rng(seed)
    arrays = {
        pair.parameter: rng.standard_normal(pair.shape).astype(np.float32)
        for pair in iterate_pairs(config)
    }
    first = next(iter(arrays.values())).reshape(-1)
    first[:3] = np.array([0x80000000, 1, 0x7F7FFFFF], np.uint32).view(np.float32)
    return arrays


def same(found, expected):
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype
        and found[name].tobytes() == expected[name].tobytes()
        for name in expected
    )


def write(kind, path, values):
    return registry.formats()[kind].write(path, values)


def opened(path):
    kind, place = registry.find(path)
    return kind, kind.open(place)


def everything(path):
    source = opened(path)[1]
    return {name: source.read(name) for name in source.entries}


def named(ema=None, raw=None):
    """Values by the names that a source has them under."""
    averages = {name + EMA_SUFFIX: array for name, array in (ema or {}).items()}
    return {**averages, **(raw or {})}


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """A file with raw values and averages, and these."""
    ema, raw = made(TINY, 1), made(TINY, 2)
    path = tmp_path_factory.mktemp("both") / f"tiny.{request.param}"
    write(request.param, path, Values(TINY, ema, raw, BOTH))
    return path, ema, raw


EVERY = {name: replace(config, num_classes=3) for name, config in CONFIGURATIONS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_there_and_back_for_every_configuration(kind, name, tmp_path):
    config = EVERY[name]
    ema, raw, path = made(config, 1), made(config, 2), tmp_path / f"x.{kind}"
    written = write(kind, path, Values(config, ema, raw, BOTH))
    found, source = opened(path)
    assert found.name == source.FORMAT == kind and source.said.config == config
    assert source.said.provenance == BOTH
    assert source.naming is OWN and not source.ONLY_VALUE and not source.left_out
    assert same({n: source.read(n) for n in source.entries}, named(ema, raw))
    assert written.files == (path,) and len(written.rows) == 2 * len(ema)
    assert {row.reason for row in written.rows} == {"ema", "raw"}
    shapes = {pair.variables[0]: pair.shape for pair in source.naming.pairs(config)}
    assert shapes == {row.parameter: row.shape for row in written.rows}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_same_names_there(kind, name, tmp_path):
    """Values alone would be 2 GB in all, so that each parameter gets one element."""
    config = MODELS[name]
    pairs = list(OWN.pairs(config))
    assert [pair.parameter for pair in pairs] == [p.parameter for p in iterate_pairs(config)]
    assert all(pair.variables == (pair.parameter,) for pair in pairs)
    arrays = {pair.parameter: np.full((), n, np.float32) for n, pair in enumerate(pairs)}
    path = tmp_path / f"x.{kind}"
    write(kind, path, Values(config, arrays, arrays, BOTH))
    assert same(everything(path), named(arrays, arrays))
    assert opened(path)[1].said.config == config


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("provenance", "value"),
    [
        ({"weights": "ema", "variables": {"ema": 389}}, "ema"),
        ({"weights": "ema", "variables": {"ema": 380, "raw": 9}}, "ema"),
        ({"weights": "ema"}, "ema"),
        ({"weights": "both"}, "ema"),
        ({"weights": "raw", "variables": {"raw": 389}}, "raw"),
        ({"weights": "ema", "variables": {"raw": 389}}, "raw"),
        ({"weights": "ema", "variables": {"only": 389}}, "model"),
        ({}, "model"),
    ],
)
def test_one_value_is_the_one_that_the_provenance_says(kind, provenance, value, tmp_path):
    arrays, path = made(TINY, 1), tmp_path / f"x.{kind}"
    assert value_of(provenance) == value
    written = write(kind, path, Values(TINY, arrays, None, provenance))
    assert {row.reason for row in written.rows} == {value}
    source = opened(path)[1]
    expected = named(ema=arrays) if value == "ema" else arrays
    assert same({name: source.read(name) for name in source.entries}, expected)
    # Whether averages or raw values alone are there, names tell; else nothing does.
    assert ("does not say whether" in source.ONLY_VALUE) is (value == "model")
    assert same(state(ep.load(path)), arrays)
    if value == "raw":
        assert same(state(ep.load(path, weights="raw")), arrays)
    else:
        with pytest.raises(InputError, match="no raw values can be taken; convert the checkpoint"):
            ep.load(path, weights="raw")


def state(model):
    return {
        name: value.numpy()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def test_a_model_has_the_values_that_are_asked_for(both, tmp_path):
    path, ema, raw = both
    for weights, expected in (("ema", ema), ("raw", raw)):
        model = ep.load(path, weights=weights)
        assert same(state(model), expected)
        assert model.provenance == {**BOTH, "weights": weights}
        # What is saved says which of the two it is.
        again = tmp_path / f"again{path.suffix}"
        ep.save(model, again)
        assert same(state(ep.load(again)), expected)
        values = {n: a for n, a in everything(again).items() if "num_batches_tracked" not in n}
        assert same(values, named(expected) if weights == "ema" else expected)
    with pytest.raises(InputError, match="give ema or raw"):
        ep.load(path, weights="both")


def test_both_are_loaded_and_saved_together(both, tmp_path):
    from torch_model.checkpoint import load_checkpoint, save_checkpoint, save_safetensors

    path, ema, raw = both
    checkpoint = load_checkpoint(path)
    assert same({n: v.numpy() for n, v in checkpoint.state_dict.items()}, ema)
    assert same({n: v.numpy() for n, v in checkpoint.raw.items()}, raw)
    for save, kind in ((save_checkpoint, "pth"), (save_safetensors, "safetensors")):
        save(tmp_path / f"x.{kind}", checkpoint)
        assert same(everything(tmp_path / f"x.{kind}"), named(ema, raw))


def test_counters_of_a_model_in_training_are_left_out(tmp_path):
    model = ep.build("efficientdet-tiny")
    for kind in KINDS:
        path = tmp_path / f"x.{kind}"
        ep.save(model, path)
        source = opened(path)[1]
        counters = {name for name in source.entries if name.endswith("num_batches_tracked")}
        unused = source.naming.unused(model.config)
        assert counters and counters == unused.keys()
        assert source.entries.keys() == model.state_dict().keys()
        assert all("counter" in reason for reason in unused.values())
        assert same(state(ep.load(path)), state(model))


def test_both_of_a_checkpoint(tiny_checkpoint, tmp_path):
    """The two values of a checkpoint's variables, through each kind of file and back."""
    files = CheckpointFiles(tiny_checkpoint / "model", "tiny", None)
    done = {weights: convert(files, weights=weights) for weights in ("ema", "raw")}
    ema, raw = done["ema"].arrays, done["raw"].arrays
    assert not same(ema, raw)
    values = Values(done["ema"].config, ema, raw, {**done["ema"].provenance, "weights": "both"})
    for kind in KINDS:
        path = tmp_path / f"x.{kind}"
        write(kind, path, values)
        assert same(everything(path), named(ema, raw))


def test_writing_twice_gives_the_same_bytes(both, tmp_path):
    path, ema, raw = both
    again = tmp_path / path.name
    write(path.suffix[1:], again, Values(TINY, ema, raw, BOTH))
    assert again.read_bytes() == path.read_bytes()


# Damage


def test_no_flipped_bit_gives_other_values(both, tmp_path):
    path, ema, raw = both
    good, damaged = path.read_bytes(), tmp_path / path.name
    rng, sound, refused = np.random.default_rng(0), named(ema, raw), 0
    for place in rng.integers(len(good), size=120):
        content = bytearray(good)
        content[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(content)
        try:
            assert same(everything(damaged), sound), place
        except InputError as error:
            assert str(damaged) in str(error) and len(str(error)) < 1000
            refused += 1
    # A .pth has space between its records, of which a small model has many.
    assert refused == 120 if path.suffix == ".safetensors" else refused > 80


def test_every_byte_of_a_small_safetensors_file_counts(tmp_path):
    """One bit of each; all of them take a minute, and none is missed."""
    arrays = {"a": np.float32([1, 2]), "b": np.zeros((), np.float32)}
    path = tmp_path / "x.safetensors"
    write("safetensors", path, Values(TINY, arrays, arrays, {"weights": "both"}))
    good, missed = path.read_bytes(), []
    for place in range(len(good)):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            file = SafetensorsFile(path)
            # It must not become somebody else's, of which nothing is verified.
            if not is_own(file):
                missed.append((place, "foreign"))
                continue
            model = SafetensorsModel(file)
            for part, tensors in model.parts.items():
                for name in tensors:
                    model.read(part, name)
        except InputError:
            continue
        missed.append((place, "read"))
    assert not missed


@pytest.mark.parametrize("where", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_short(both, where, tmp_path):
    path = both[0]
    good, cut = path.read_bytes(), tmp_path / path.name
    cut.write_bytes(good[: int(len(good) * where)])
    found = registry.find(cut)
    if where == 0:
        assert found is None
        return
    with pytest.raises(InputError, match="cut short|of its|damaged"):
        found[0].open(found[1])
    with pytest.raises(InputError, match="cut short|of its|damaged"):
        ep.load(cut)


def rewritten(path, target, change):
    """A sound safetensors file of other metadata and tensors, without a new seal."""
    file = SafetensorsFile(path)
    metadata, arrays = dict(file.metadata), {name: file.read(name) for name in file.tensors}
    change(metadata, arrays)
    write_safetensors(target, arrays.items(), metadata)
    return target


def sealed(change):
    """A change after which the seal is made again, as only a forger does."""

    def changed(metadata, arrays):
        change(metadata, arrays)
        metadata["seal"] = seal_of({**metadata})

    return changed


FIRST = "backbone.stem_bn.weight"


def change_value(metadata, arrays):
    arrays[FIRST][0] += 1


def change_raw_value(metadata, arrays):
    arrays[f"raw/{FIRST}"][0] += 1


def exchange_values(metadata, arrays):
    arrays[FIRST], arrays[f"raw/{FIRST}"] = arrays[f"raw/{FIRST}"], arrays[FIRST]


def change_type(metadata, arrays):
    arrays[FIRST] = arrays[FIRST].view(np.int32)


def remove_tensor(metadata, arrays):
    del arrays[FIRST]


def remove_raw_values(metadata, arrays):
    for name in [name for name in arrays if name.startswith("raw/")]:
        del arrays[name]


def change_weights(metadata, arrays):
    metadata["weights"] = "ema"


def change_config(metadata, arrays):
    metadata["config"] = metadata["config"].replace('"anchor_scale":4.0', '"anchor_scale":3.0')


def add_metadata(metadata, arrays):
    metadata["more"] = ""


def remove_seal(metadata, arrays):
    del metadata["seal"]


def remove_mark(metadata, arrays):
    del metadata["kind"]


CHANGES = [
    change_value,
    change_raw_value,
    exchange_values,
    change_type,
    remove_tensor,
    remove_raw_values,
    change_weights,
    change_config,
    add_metadata,
    remove_seal,
    remove_mark,
]


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    path = tmp_path_factory.mktemp("safe") / "x.safetensors"
    write("safetensors", path, Values(TINY, made(TINY, 1), made(TINY, 2), BOTH))
    return path


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_was_changed_since_is_refused(change, safe, tmp_path):
    path = rewritten(safe, tmp_path / "c.safetensors", change)
    with pytest.raises(InputError, match="is not as it was written|is int32 .8., not float32"):
        ep.load(path)
    with pytest.raises(InputError, match="is not as it was written"):
        everything(path)


def say(**said):
    return lambda metadata, arrays: metadata.update(said)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (say(version="2"), "has format version 2, but this program reads up to 1"),
        (say(kind="efficientdet-parity-backbone"), "its kind is efficientdet-parity-backbone"),
        (say(weights="all"), "garbles a part of it (weights)"),
        (say(weights="raw"), "raw values are missing, or are there though"),
        (say(config="{"), "garbles a part of it (config)"),
        (say(config="[]"), "garbles a part of it"),
        (say(provenance="3"), "garbles a part of it"),
        (say(provenance="[" * 100_000), "garbles a part of it (provenance)"),
        (say(digests="[]"), "are not those that have digests"),
        (say(digests="{}"), "are not those that have digests"),
        (lambda metadata, arrays: metadata.pop("weights"), "garbles a part of it (weights)"),
    ],
)
def test_forged_metadata(change, words, safe, tmp_path):
    """The seal is no signature: whoever makes another is told what is wrong all the same."""
    path = rewritten(safe, tmp_path / "f.safetensors", sealed(change))
    with pytest.raises(InputError) as error:
        everything(path)
    text = str(error.value)
    assert words in text and str(path) in text and len(text) < 1000


def test_tensors_of_another_model_are_no_model(safe, tmp_path):
    def change(metadata, arrays):
        arrays["more"] = np.zeros(2, np.float32)
        digests = json.loads(metadata["digests"])
        from torch_model.model_file import tensor_digest

        digests["more"] = tensor_digest(arrays["more"])
        metadata["digests"] = json.dumps(digests)

    path = rewritten(safe, tmp_path / "m.safetensors", sealed(change))
    with pytest.raises(InputError, match="does not fit efficientdet-tiny: more is unknown"):
        ep.load(path)
    # As a source it is the ledger that accounts for every tensor.
    assert "more" + EMA_SUFFIX in opened(path)[1].entries


def test_somebody_elses_safetensors_is_no_model_of_ours(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, made(TINY, 1).items(), {"format": "pt"})
    with pytest.raises(InputError, match="but not one that convert.py wrote"):
        ep.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="is not a sound safetensors file"):
        ep.load(path)


def test_a_safetensors_holds_no_backbone_alone(safe):
    with pytest.raises(InputError, match="holds a whole detector, expected a backbone alone"):
        ep.load_backbone(ep.build("efficientdet-tiny"), safe)


def test_the_library_reads_what_is_written(safe):
    pytest.importorskip("safetensors", reason="the safetensors package is not installed")
    from safetensors import safe_open
    from safetensors.torch import load_file

    ema, raw = made(TINY, 1), made(TINY, 2)
    found = {name: value.numpy() for name, value in load_file(safe).items()}
    assert same(found, {**ema, **{f"raw/{name}": array for name, array in raw.items()}})
    with safe_open(safe, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt" and metadata["model"] == "efficientdet-tiny"
    assert metadata["weights"] == "both" and json.loads(metadata["provenance"]) == BOTH


def test_a_file_with_one_value_is_a_state_dict_to_the_library(tmp_path):
    pytest.importorskip("safetensors", reason="the safetensors package is not installed")
    from safetensors.torch import load_file

    model, other = ep.build("efficientdet-tiny"), ep.build("efficientdet-tiny")
    ep.save(model, tmp_path / "x.safetensors")
    other.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=True)
    assert same(state(other), state(model))


def test_nothing_is_left_where_a_target_cannot_be_written(tmp_path):
    for kind in KINDS:
        with pytest.raises(InputError, match="cannot be written"):
            write(kind, tmp_path / "none" / f"x.{kind}", Values(TINY, made(TINY, 1)))
        with pytest.raises(InputError, match="no plain value"):
            odd = {"odd": object()}
            write(kind, tmp_path / f"x.{kind}", Values(TINY, made(TINY, 1), provenance=odd))
    assert not list(tmp_path.iterdir())


def test_sources_need_no_framework(both):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from converter.formats import registry\n"
        "kind, place = registry.find(Path(sys.argv[1]))\n"
        "source = kind.open(place)\n"
        "print(sum(source.read(name).size for name in source.entries))\n"
        "print([name for name in ('torch', 'tensorflow') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(both[0])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    total = 2 * sum(array.size for array in both[1].values())
    assert done.stdout.split("\n")[:2] == [str(total), "[]"]
