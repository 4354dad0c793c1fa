"""The same values have the same fingerprint in every container, and no others have."""

import time

import numpy as np
import pytest

from converter.fingerprints import of_arrays, of_index
from converter.mappings.official import iterate_pairs
from converter.origin import BY_RAW_VALUES, BY_VALUES, recognise_values
from converter.tensorflow_files.bundle import open_bundle, read_index
from efficientdet_spec import EMA_SUFFIX, TINY, get_config
from efficientdet_spec.releases import EMA, RAW, RELEASES, release_of_values

KNOWN = [name for name, release in RELEASES.items() if release.ema_values]


def test_arrays_and_the_index_agree(tiny_checkpoint, tiny_conversion):
    index = read_index(tiny_checkpoint / "model.index")
    config = tiny_conversion.config
    found = of_arrays(config, tiny_conversion.arrays)
    assert found == of_index(index.entries, config) != of_index(index.entries, config, RAW)
    bundle = open_bundle(tiny_checkpoint / "model")
    raw = {
        pair.parameter: pair.layout.to_torch([bundle.read(name) for name in pair.variables])
        for pair in iterate_pairs(config)
    }
    assert of_arrays(config, raw) == of_index(index.entries, config, RAW)


def test_one_changed_value_is_another_model(tiny_conversion):
    config, arrays = tiny_conversion.config, dict(tiny_conversion.arrays)
    before = of_arrays(config, arrays)
    name = "box_head.predict.pointwise.bias"
    arrays[name] = arrays[name].copy()
    arrays[name][5] = np.nextafter(arrays[name][5], np.float32(np.inf))
    assert of_arrays(config, arrays) != before


def test_how_arrays_lie_in_memory_changes_nothing(tiny_conversion):
    config, arrays = tiny_conversion.config, tiny_conversion.arrays
    turned = {name: np.asfortranarray(array).astype(">f4") for name, array in arrays.items()}
    assert of_arrays(config, turned) == of_arrays(config, arrays)
    assert all(array.flags.writeable for array in arrays.values())


def test_what_is_missing_or_of_another_type_has_none(tiny_checkpoint):
    entries = dict(read_index(tiny_checkpoint / "model.index").entries)
    one = next(iter(iterate_pairs(TINY))).variables[0]
    del entries[one + EMA_SUFFIX]
    assert of_index(entries, TINY) is None and of_index(entries, TINY, RAW) is not None
    assert of_index(entries, get_config("d0"), RAW) is None


@pytest.mark.parametrize("name", KNOWN)
def test_googles_values_are_those_of_its_index_files(test_data, name):
    release = RELEASES[name]
    folder = release.path.partition("/")[0]
    index = read_index(test_data / "official" / "index" / f"{release.model}.{folder}.index")
    config = get_config(release.model)
    for kind, stated in ((EMA, release.ema_values), (RAW, release.raw_values)):
        assert of_index(index.entries, config, kind) == stated
        found = recognise_values(stated)
        how = {"ema": BY_VALUES, "raw": BY_RAW_VALUES}[kind]
        assert (found.release, found.how) == (release, how)
        assert found.certain


def test_every_known_index_file_has_its_values_stated(test_data):
    paths = sorted((test_data / "official" / "index").glob("*.index"))
    for path in paths:
        model, kind, _ = path.name.split(".")
        entries = read_index(path).entries
        found = [of_index(entries, get_config(model), weights) for weights in (EMA, RAW)]
        if kind == "training":
            release = RELEASES[model]
            assert found == [release.training_ema_values, release.training_raw_values]
            # As of its content: what is known of it does not tell its preprocessing.
            assert recognise_values(found[0]) is None
        else:
            assert [release_of_values(item)[1] for item in found] == [EMA, RAW]
    assert sum(".training." not in path.name for path in paths) == len(KNOWN)


def test_other_values_under_the_same_names_are_not_googles(test_data):
    index = read_index(test_data / "checkpoints" / "efficientdet-d0" / "model.index")
    for weights in (EMA, RAW):
        found = of_index(index.entries, get_config("d0"), weights)
        assert found is not None and recognise_values(found) is None
    assert recognise_values(None) is None


def test_one_changed_checksum_is_not_googles(test_data):
    path = test_data / "official" / "index" / "efficientdet-d0.coco2.index"
    entries = dict(read_index(path).entries)
    name = next(iter(iterate_pairs(get_config("d0")))).variables[0] + EMA_SUFFIX
    entries[name] = entries["fpn_cells/cell_0/fnode0/WSM" + EMA_SUFFIX]
    assert recognise_values(of_index(entries, get_config("d0"))) is None


def test_the_largest_model_takes_little_time():
    config = get_config("d7x")
    arrays = {pair.parameter: np.ones(pair.shape, np.float32) for pair in iterate_pairs(config)}
    start = time.process_time()
    of_arrays(config, arrays)
    # Measured 0.2 s; a copy of each of 308 MB for every variable would take more.
    assert time.process_time() - start < 3


def test_what_is_known_is_not_summed_up_again(tiny_checkpoint, tiny_conversion):
    config, arrays = tiny_conversion.config, dict(tiny_conversion.arrays)
    entries = read_index(tiny_checkpoint / "model.index").entries
    known = {
        name: entries[name + EMA_SUFFIX].crc32c
        for pair in iterate_pairs(config)
        for name in pair.variables
    }
    assert of_arrays(config, arrays, known) == of_arrays(config, arrays)
    assert tiny_conversion.provenance["model_fingerprint"] == of_arrays(config, arrays)
    # It is believed, so that another value is another model.
    name = next(iter(known))
    assert of_arrays(config, arrays, {name: known[name] ^ 1}) != of_arrays(config, arrays)
