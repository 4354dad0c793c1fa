"""From a checkpoint to PyTorch's layout and back, bit for bit."""

import hashlib
import re
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from listed_source import listed

from converter.conversion import account, convert, examine, open_source, to_tensorflow
from converter.fetch.cached import CheckpointFiles
from converter.hparams.given import Hyperparameters
from converter.ledger import make_ledger, to_torch
from converter.mappings.layouts import DEPTHWISE, Stacked
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import BundleEntry, fingerprint, open_bundle, read_index
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.variables import EMA
from efficientdet_spec import BATCH_NORM_EPSILON, TINY, Fusion, InputError, releases


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A copy of the tiny checkpoint that may be damaged."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def files_of(folder, **other):
    prefix = folder / "model"
    return CheckpointFiles(prefix, str(prefix), None, **other)


def random_state(config):
    """A value for each parameter; no two elements are equal, and some are special."""
    rng = np.random.default_rng(0)
    state = {
        pair.parameter: rng.standard_normal(pair.shape).astype(np.float32)
        for pair in iterate_pairs(config)
    }
    special = state["backbone.stem_conv.weight"].reshape(-1)
    special[:4] = [-0.0, np.float32(1e-45), np.finfo(np.float32).max, -np.inf]
    special[4:5].view(np.uint32)[:] = 0x7FC12345  # a NaN with a payload
    return state


def ledger_of(config, tensors):
    entries = {
        name: BundleEntry(name, np.dtype("<f4"), "DT_FLOAT", array.shape, 0, 0, array.nbytes, 0)
        for name, array in tensors.items()
    }
    ledger = make_ledger(listed(entries), config)
    ledger.require_complete("the tensors")
    return ledger


def same_bits(left, right):
    return (
        left.keys() == right.keys()
        and all(left[name].shape == right[name].shape for name in left)
        and all(left[name].tobytes() == right[name].tobytes() for name in left)
    )


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, fusion=Fusion.SUM), replace(TINY, max_level=8).with_classes(3)],
    ids=["tiny", "sum", "P8 and 3 classes"],
)
def test_there_and_back_is_bit_for_bit(config):
    state = random_state(config)
    tensors = {name: np.asarray(value) for name, value in to_tensorflow(config, state)}
    back = dict(to_torch(ledger_of(config, tensors).sources, tensors.__getitem__))
    assert same_bits(back, state)
    again = {name: np.asarray(value) for name, value in to_tensorflow(config, back)}
    assert same_bits(again, tensors)


def test_a_wrong_layout_on_one_way_breaks_the_round_trip(monkeypatch):
    state = random_state(TINY)
    tensors = {name: np.asarray(value) for name, value in to_tensorflow(TINY, state)}
    ledger = ledger_of(TINY, tensors)
    # Height and width exchanged: no shape differs.
    wrong = replace(DEPTHWISE, to_torch_axes=(2, 3, 1, 0))
    sources = tuple(
        replace(source, pair=replace(source.pair, layout=wrong))
        if source.pair.layout is DEPTHWISE
        else source
        for source in ledger.sources
    )
    back = dict(to_torch(sources, tensors.__getitem__))
    assert {name: array.shape for name, array in back.items()} == {
        name: array.shape for name, array in state.items()
    }
    assert not same_bits(back, state)


def test_results_are_arrays_of_their_own():
    state = random_state(TINY)
    tensors = {name: np.asarray(value) for name, value in to_tensorflow(TINY, state)}
    for array in tensors.values():
        array.flags.writeable = False
    converted = dict(to_torch(ledger_of(TINY, tensors).sources, tensors.__getitem__))
    for name, array in converted.items():
        assert array.dtype == np.float32, name
        assert array.flags.c_contiguous and array.flags.writeable, name
    assert not any(
        np.shares_memory(array, tensor)
        for array in list(converted.values())[:20]
        for tensor in list(tensors.values())[:20]
    )


def test_fusion_weights_become_scalars():
    state = random_state(TINY)
    name = "fpn.cells.0.nodes.4.weights"
    state[name] = np.array([-0.0118, 1.5, 0.1], np.float32)
    tensors = dict(to_tensorflow(TINY, state))
    scalars = [tensors[f"fpn_cells/cell_0/fnode4/{part}"] for part in ("WSM", "WSM_1", "WSM_2")]
    assert [np.shape(scalar) for scalar in scalars] == [(), (), ()]
    assert [scalar.dtype for scalar in scalars] == [np.float32] * 3
    assert b"".join(scalar.tobytes() for scalar in scalars) == state[name].tobytes()
    assert "fpn_cells/cell_0/fnode4/WSM_3" not in tensors
    # A node at an end of the pyramid has two inputs.
    assert "fpn_cells/cell_0/fnode0/WSM_1" in tensors
    assert "fpn_cells/cell_0/fnode0/WSM_2" not in tensors


def test_what_goes_back_can_be_written_and_converted(tmp_path):
    state = random_state(TINY)
    special = state["backbone.stem_conv.weight"].reshape(-1)
    special[~np.isfinite(special)] = 0
    for name in state:
        if name.endswith("running_var"):
            state[name] = np.abs(state[name])
    write_bundle(tmp_path / "model", dict(to_tensorflow(TINY, state)))
    conversion = convert(files_of(tmp_path))
    assert conversion.config == TINY
    assert same_bits(conversion.arrays, state)


def test_a_missing_parameter_is_an_error():
    state = random_state(TINY)
    del state["backbone.stem_bn.running_var"]
    with pytest.raises(KeyError, match=r"backbone\.stem_bn\.running_var"):
        dict(to_tensorflow(TINY, state))


def test_batch_counters_are_ignored():
    state = random_state(TINY)
    plain = dict(to_tensorflow(TINY, state))
    state["backbone.stem_bn.num_batches_tracked"] = np.array(7)
    assert dict(to_tensorflow(TINY, state)).keys() == plain.keys()


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_values_are_those_of_the_file(tiny_checkpoint, weights):
    """Looked up here by hand, without the mapping."""
    conversion = convert(files_of(tiny_checkpoint), weights=weights)
    bundle = open_bundle(tiny_checkpoint / "model")
    suffix = f"/{EMA}" if weights == "ema" else ""

    def read(name):
        return bundle.read(name + suffix)

    block = "efficientnet-tiny/blocks_1"
    expected = {
        "backbone.stem_conv.weight": read("efficientnet-tiny/stem/conv2d/kernel").transpose(
            3, 2, 0, 1
        ),
        # Without an expansion the projection is the block's first convolution.
        "backbone.blocks.0.project_conv.weight": read(
            "efficientnet-tiny/blocks_0/conv2d/kernel"
        ).transpose(3, 2, 0, 1),
        "backbone.blocks.1.expand_conv.weight": read(f"{block}/conv2d/kernel").transpose(
            3, 2, 0, 1
        ),
        "backbone.blocks.1.project_conv.weight": read(f"{block}/conv2d_1/kernel").transpose(
            3, 2, 0, 1
        ),
        "backbone.blocks.1.depthwise_conv.weight": read(
            f"{block}/depthwise_conv2d/depthwise_kernel"
        ).transpose(2, 3, 0, 1),
        "backbone.blocks.1.se.reduce_conv.bias": read(f"{block}/se/conv2d/bias"),
        "backbone.blocks.1.project_bn.running_var": read(
            f"{block}/tpu_batch_normalization_2/moving_variance"
        ),
        "class_head.bns.1.P6.weight": read("class_net/class-1-bn-6/gamma"),
        "fpn.cells.1.nodes.4.weights": np.array(
            [read(f"fpn_cells/cell_1/fnode4/{name}") for name in ("WSM", "WSM_1", "WSM_2")]
        ),
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(conversion.arrays[name], array, strict=True, err_msg=name)
    assert len(conversion.arrays) == len(list(iterate_pairs(TINY)))


def test_averages_and_raw_values_differ(tiny_checkpoint):
    averages, raw = (
        convert(files_of(tiny_checkpoint), weights=weights) for weights in ("ema", "raw")
    )
    same = [
        name for name, array in averages.arrays.items() if np.array_equal(array, raw.arrays[name])
    ]
    assert same == []


def test_provenance(tiny_checkpoint):
    files = CheckpointFiles(tiny_checkpoint / "model", "https://host/tiny.tar.gz", "ab" * 32)
    conversion = convert(files)
    index = read_index(tiny_checkpoint / "model.index")
    used = [name for name in index.entries if name.endswith(EMA)]
    assert conversion.provenance == {
        "source": "https://host/tiny.tar.gz",
        "container": "tf1",
        "archive_sha256": "ab" * 32,
        "index_sha256": hashlib.sha256((tiny_checkpoint / "model.index").read_bytes()).hexdigest(),
        "checkpoint_fingerprint": index.fingerprint(),
        "values_fingerprint": index.fingerprint(used),
        # The averages' checksums under the variables' own names.
        "model_fingerprint": fingerprint(
            {name.removesuffix(f"/{EMA}"): index.entries[name].crc32c for name in used}
        ),
        "checked": "every CRC32C verified",
        "release": None,
        "licence": None,
        "weights": "ema",
        "stripped_prefix": None,
        "variables": {
            "ema": len(used),
            "raw twin of an EMA value": len(used),
            "training step counter": 1,
        },
        "dtypes": {"float32": len(used)},
        "notes": [],
        "hyperparameters": conversion.provenance["hyperparameters"],
        "versions": conversion.provenance["versions"],
    }
    versions = conversion.provenance["versions"]
    assert versions.keys() == {"efficientdet-parity", "numpy", "torch"}
    assert versions["numpy"] == metadata.version("numpy")


def test_the_licence_is_that_of_a_release(tiny_checkpoint, monkeypatch):
    """Known by its content, whatever it is called, or by Google's own address."""
    prefix = tiny_checkpoint / "model"
    address = f"{releases.STORAGE_URL}/efficientdet-d9.tar.gz"
    assert convert(CheckpointFiles(prefix, address, None)).provenance["licence"] == "Apache-2.0"
    content = read_index(tiny_checkpoint / "model.index").fingerprint()
    release = replace(releases.RELEASES["efficientdet-d0"], model=TINY.name, fingerprint=content)
    monkeypatch.setattr(releases, "RELEASES", {"efficientdet-d0": release})
    provenance = convert(CheckpointFiles(prefix, "x", None)).provenance
    assert provenance["licence"] == "Apache-2.0"
    assert provenance["release"] == {"name": "efficientdet-d0", "how": "by its content"}


def test_what_has_other_classes_is_no_release(tiny_checkpoint, tmp_path, monkeypatch):
    """A folder is called after a release, but what lies in it has been trained further."""
    release = replace(releases.RELEASES["efficientdet-d0-advprop"], model=TINY.name)
    monkeypatch.setattr(releases, "RELEASES", {release.name: release})
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / release.name))
    told = {"name": release.name, "how": "by its folder"}
    assert convert(files_of(folder)).provenance["release"] == told
    more = TINY.with_classes(TINY.num_classes + 1)
    monkeypatch.setattr("converter.origin.get_config", lambda name: more)
    assert convert(files_of(folder)).provenance["release"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_scales=0", "--hparams: num_scales is 0"),
        ("name=efficientdet-lite0", "not of efficientdet-lite0; correct the name in --hparams"),
        ("box_class_repeats=9", "--hparams says box_class_repeats so that 9 is expected"),
    ],
)
def test_a_hyperparameter_that_does_not_fit_is_no_wrong_archive(
    tiny_checkpoint, tmp_path, text, said
):
    files = CheckpointFiles(
        tiny_checkpoint / "model", "https://host/x.tar.gz", "ab" * 32, None, tmp_path / "x.tar.gz"
    )
    with pytest.raises(InputError) as raised:
        account(files, hyperparameters=Hyperparameters.of(None, text))
    assert said in str(raised.value) and "archive" not in str(raised.value)


def test_what_was_downloaded_for_another_model_says_where_it_is(tiny_checkpoint, tmp_path):
    """Else the name could not be used again until somebody finds the file in the cache."""
    files = CheckpointFiles(
        tiny_checkpoint / "model", "https://host/d2.tar.gz", "ab" * 32, "efficientdet-d2",
        tmp_path / "d2.tar.gz",
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"https://host/d2.tar.gz is an archive of another model"
    ) as no:
        convert(files)
    assert f"delete {tmp_path / 'd2.tar.gz'} to download it again" in str(no.value)
    assert "efficientdet-tiny, not of efficientdet-d2" in str(no.value)


def test_fingerprints_follow_the_values(tiny_checkpoint, rewrite):
    def change_a_raw_value(tensors):
        tensors["box_net/box-predict/bias"][0] += 1

    before = convert(files_of(tiny_checkpoint)).provenance
    after = convert(files_of(rewrite(change_a_raw_value))).provenance
    assert after["checkpoint_fingerprint"] != before["checkpoint_fingerprint"]
    # The averages are used, which are the same.
    assert after["values_fingerprint"] == before["values_fingerprint"]
    raw = convert(files_of(tiny_checkpoint), weights="raw").provenance
    assert raw["values_fingerprint"] != before["values_fingerprint"]
    assert raw["checkpoint_fingerprint"] == before["checkpoint_fingerprint"]


def spoil_used(tensors):
    tensors[f"class_net/class-0-bn-3/beta/{EMA}"][2:4] = np.nan
    tensors[f"fpn_cells/cell_0/fnode1/WSM_1/{EMA}"][...] = np.inf


def spoil_one_with_both(tensors):
    beta = tensors[f"class_net/class-0-bn-3/beta/{EMA}"]
    beta[2], beta[3] = np.nan, -np.inf


def spoil_scalar(tensors):
    tensors[f"fpn_cells/cell_0/fnode1/WSM_1/{EMA}"][...] = np.inf


def spoil_everything(tensors):
    for values in tensors.values():
        if values.dtype == np.float32:
            values[...] = np.nan


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (
            spoil_used,
            f"'class_net/class-0-bn-3/beta/{EMA}' holds NaN in 2 of 16 values (and one more "
            f"variable is affected);",
        ),
        (spoil_one_with_both, "holds NaN and infinity in 2 of 16 values;"),
        (spoil_scalar, "'fpn_cells/cell_0/fnode1/WSM_1/ExponentialMovingAverage' holds infinite "),
        (spoil_everything, "holds NaN in 16 of 16 values (and 410 more variables are affected);"),
    ],
)
def test_values_that_are_not_finite_are_refused_by_name(spoil, found, rewrite):
    folder = rewrite(spoil)
    with pytest.raises(InputError) as refused:
        convert(files_of(folder))
    message = str(refused.value)
    assert message.startswith(f"{folder / 'model'}: ") and found in message
    assert message.endswith("has diverged, so give an earlier checkpoint.") and len(message) < 500
    # Without a conversion, too.
    with pytest.raises(InputError) as again:
        examine(open_source(files_of(folder)), account(files_of(folder)))
    assert str(again.value) == message


VARIANCE = "class_net/class-0-bn-3/moving_variance"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_variances_without_a_square_root_are_refused(dtype, rewrite):
    def negated(tensors):
        for name in tensors:
            if "/moving_variance" in name:
                tensors[name] = -np.abs(tensors[name]).astype(dtype).clip(0.25)

    folder = rewrite(negated)
    for attempt in (convert, lambda files: examine(open_source(files), account(files))):
        with pytest.raises(InputError) as refused:
            attempt(files_of(folder))
        message = str(refused.value)
        assert message.startswith(f"{folder / 'model'}: ")
        assert re.search(
            r"/moving_variance/Exp\w+' holds (\d+) of \1 values \(and \d+ more variables are "
            r"affected\) at or below -0.001, of which a batch norm's square root gives NaN",
            message,
        )
        assert len(message) < 500


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (np.float32(-0.001), "refused"),
        (np.nextafter(np.float32(-0.001), np.float32(0)), "noted"),
        (np.float32(-1e-20), "noted"),
        (np.float32(-0.0), "silent"),
        (np.float32(0), "silent"),
    ],
)
def test_how_negative_a_variance_may_be(value, outcome, rewrite):
    name = f"{VARIANCE}/{EMA}"

    def change(tensors):
        tensors[name][2] = value

    files = files_of(rewrite(change))
    told = f"'{name}' holds 1 of 16 values"
    if outcome == "refused":
        # As a batch norm computes it.
        assert value + np.float32(BATCH_NORM_EPSILON) <= 0
        with pytest.raises(InputError, match=f"{told} at or below -0.001, of which"):
            convert(files)
        # Of values that are not used it does not matter.
        assert convert(files, weights="raw").ledger.notes == ()
        return
    assert np.isfinite(1 / np.sqrt(value + np.float32(BATCH_NORM_EPSILON)))
    noted = f"{told} below 0, which no training writes; batch norms can use them, since none is "
    expected = (f"{noted}below -0.001.",) if outcome == "noted" else ()
    assert convert(files).ledger.notes == expected
    assert examine(open_source(files), account(files)).notes == expected


def test_float64_is_narrowed_where_that_is_exact(rewrite):
    def to_float64(tensors):
        for name, values in tensors.items():
            if values.dtype == np.float32:
                tensors[name] = values.astype(np.float64)
        # Of values that are not used it does not matter.
        tensors["box_net/box-predict/bias"][0] = 0.1

    folder = rewrite(to_float64)
    done, plain = convert(files_of(folder)), convert(files_of(rewrite(lambda _: None, "plain")))
    for name, array in plain.arrays.items():
        assert done.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(done.arrays[name], array)
    assert done.provenance["dtypes"] == {"float64": 411} != plain.provenance["dtypes"]
    assert "stored as float64 and narrowed" in done.provenance["notes"][0]
    examine(open_source(files_of(folder)), account(files_of(folder)))


@pytest.mark.parametrize("value", [0.1, 1e300, 1e-300, 1 + 2**-30])
def test_float64_that_float32_cannot_hold_is_refused_by_name_and_value(value, rewrite):
    name = f"box_net/box-predict/bias/{EMA}"

    def change(tensors):
        tensors[name] = tensors[name].astype(np.float64)
        tensors[name][5] = value

    folder = rewrite(change)
    for attempt in (convert, lambda files: examine(open_source(files), account(files))):
        with pytest.raises(InputError) as refused:
            attempt(files_of(folder))
        told = f"{name!r} is stored as float64 and holds {value!r}, which float32 cannot hold"
        assert told in str(refused.value) and "1 of its 36 values" in str(refused.value)


def test_values_that_are_not_used_may_be_anything(rewrite):
    def spoil(tensors):
        tensors["box_net/box-predict/bias"][3:] = np.nan

    folder = rewrite(spoil)
    conversion = convert(files_of(folder))
    note = (
        "Of the values that are not used, 'box_net/box-predict/bias' holds NaN in 33 of 36 values."
    )
    assert conversion.ledger.notes == (note,)
    assert conversion.provenance["notes"] == [note]
    assert examine(open_source(files_of(folder)), account(files_of(folder))).notes == (note,)
    with pytest.raises(InputError, match="'box_net/box-predict/bias' holds NaN in 33 of 36"):
        convert(files_of(folder), weights="raw")


def test_finite_values_whose_sum_overflows_are_no_fault(rewrite):
    huge = np.finfo(np.float32).max

    def change(tensors):
        tensors[f"class_net/class-0-bn-3/beta/{EMA}"][:] = huge
        tensors["class_net/class-0-bn-3/beta"][:] = huge

    conversion = convert(files_of(rewrite(change)))
    assert conversion.arrays["class_head.bns.0.P3.bias"].max() == huge
    assert conversion.ledger.notes == ()


@pytest.mark.parametrize("weights", ["ema", "raw"])
@pytest.mark.parametrize("used", [True, False])
def test_a_damaged_variable_is_refused_whether_it_is_used_or_not(weights, used, copy):
    """A flipped bit of either twin, and of what belongs to the training alone."""
    entries = read_index(copy / "model.index").entries
    twins = {"ema": f"box_net/box-predict/bias/{EMA}", "raw": "box_net/box-predict/bias"}
    names = [twins[weights] if used else twins["raw" if weights == "ema" else "ema"]]
    data = copy / "model.data-00000-of-00001"
    good = data.read_bytes()
    for name in names if used else [*names, "global_step"]:
        damaged = bytearray(good)
        damaged[entries[name].offset + 2] ^= 1
        data.write_bytes(damaged)
        with pytest.raises(InputError) as refused:
            convert(files_of(copy), weights=weights)
        assert str(refused.value).startswith(f"{data} is damaged: bytes {entries[name].offset} to")
        assert repr(name) in str(refused.value)
    data.write_bytes(good)
    convert(files_of(copy), weights=weights)


def test_progress_counts_every_byte_once(tiny_checkpoint):
    calls = []
    convert(files_of(tiny_checkpoint), progress=lambda done, total: calls.append((done, total)))
    entries = read_index(tiny_checkpoint / "model.index").entries
    total = (tiny_checkpoint / "model.data-00000-of-00001").stat().st_size
    assert len(calls) == len(entries)
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_an_account_needs_the_index_alone(tiny_checkpoint, tmp_path):
    (tmp_path / "model.index").write_bytes((tiny_checkpoint / "model.index").read_bytes())
    ledger = account(files_of(tmp_path))
    assert ledger.config == TINY
    assert ledger.findings == ()
    with pytest.raises(InputError, match="data-00000-of-00001 is missing"):
        convert(files_of(tmp_path))


def test_an_official_name_as_source_must_fit(tiny_checkpoint):
    with pytest.raises(InputError, match="variables of efficientdet-tiny, not of efficientdet-d0"):
        account(files_of(tiny_checkpoint, official_model="efficientdet-d0"))
    # What the user says wins over the name of the download.
    assert (
        account(files_of(tiny_checkpoint, official_model="efficientdet-d0"), model="tiny").config
        == TINY
    )


def test_only_fusion_weights_are_several_scalars():
    assert {
        pair.parameter.rsplit(".", 1)[-1]
        for pair in iterate_pairs(TINY)
        if isinstance(pair.layout, Stacked)
    } == {"weights"}
    assert all(
        (len(pair.variables) > 1) == (isinstance(pair.layout, Stacked))
        for pair in iterate_pairs(TINY)
    )
