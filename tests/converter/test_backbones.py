"""A backbone alone: every variable of the official classification networks is accounted for."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from listed_source import listed
from made_entries import checkpoint

from converter.backbones import ANY_BACKBONE, backbone_config, backbone_ledger
from converter.choice import choose_config
from converter.formats.renamed import without_prefix
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import BundleEntry
from efficientdet_spec import BACKBONES, EMA_SUFFIX, MODELS, TINY, InputError, get_config
from efficientdet_spec.releases import backbone_address

GOLDEN = Path(__file__).parents[1] / "golden" / "hparams" / "backbones.json.gz"
OFFICIAL = json.loads(gzip.decompress(GOLDEN.read_bytes()))
HEAD = "classification head, which no detector has"
SLOTS = ("RMSProp", "RMSProp_1")


def backbone_account(source, *asked, **more):
    return backbone_ledger(source, *asked, **more)[1]


def entry(name, shape=()):
    return BundleEntry(name, np.dtype("<f4"), "DT_FLOAT", tuple(shape), 0, 0, 0, 0)


def entries_of(shapes):
    """As official training writes them: values, averages, optimizer slots, the step."""
    found = {}
    for name, shape in shapes.items():
        suffixes = ["", EMA_SUFFIX]
        if not name.rpartition("/")[2].startswith("moving_"):
            suffixes += [f"/{slot}" for slot in SLOTS]
        found |= {name + suffix: entry(name + suffix, shape) for suffix in suffixes}
    return {**found, "global_step": entry("global_step")}


def own_shapes(name):
    """The shapes of a backbone's variables as our mapping has them."""
    return {
        variable: shape
        for pair in iterate_pairs(backbone_config(name))
        if pair.parameter.startswith("backbone.")
        for variable, shape in pair.variable_shapes.items()
    }


def classification(name):
    """All variables of an official classification network; its head's are golden."""
    known = OFFICIAL["backbones"][name]
    return {**own_shapes(name), **{item[0]: tuple(item[1]) for item in known["head"]}}


def unaccounted(ledger, entries):
    """What keeps an account from being complete."""
    rows = Counter(row.variable for row in ledger.rows)
    used = Counter(name for source in ledger.sources for name in source.variables)
    filled = {source.pair.parameter for source in ledger.sources}
    wanted = {
        pair.parameter
        for pair in iterate_pairs(ledger.config)
        if pair.parameter.startswith("backbone.")
    }
    return [
        *map(str, ledger.findings),
        *(name for name in entries.keys() ^ rows.keys()),
        *(name for name, count in (rows + Counter()).items() if count != 1),
        *(name for name, count in used.items() if count != 1),
        *(wanted ^ filled),
        *(row.variable for row in ledger.rows if not row.reason),
    ]


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b8"])
def test_the_backbones_variables_are_the_official_ones(name):
    official = {item[0]: tuple(item[1]) for item in OFFICIAL["backbones"][name]["rest"]}
    assert own_shapes(name) == official


@pytest.mark.parametrize("name", OFFICIAL["backbones"])
def test_the_other_ones_are_those_of_a_detector(name, test_data):
    known = OFFICIAL["backbones"][name]
    assert len(classification(name)) == known["variables"]
    same = known.get("rest_equals_detector")
    if same is None:
        return
    short = same["model"].removeprefix("efficientdet-")
    content = json.loads((test_data / "official" / f"{short}.variables.json").read_text())
    detectors = {
        variable: tuple(shape)
        for variable, shape, _ in content["variables"]
        if variable.startswith(f"{name}/")
    }
    assert same["equal"] and own_shapes(name) == detectors


@pytest.mark.parametrize("weights", ["ema", "raw"])
@pytest.mark.parametrize("name", OFFICIAL["backbones"])
def test_official_classification_networks_are_accounted_for(name, weights):
    shapes = classification(name)
    entries = entries_of(shapes)
    ledger = backbone_account(listed(entries), weights=weights)
    assert unaccounted(ledger, entries) == []
    assert ledger.config.name == ledger.config.backbone_name == name
    counts = ledger.counts()
    assert counts[weights] == len(own_shapes(name))
    # Value and average of each of the head's variables; its slots are slots first.
    assert counts[HEAD] == 2 * len(OFFICIAL["backbones"][name]["head"])
    assert counts["training step counter"] == 1
    (note,) = ledger.notes
    assert "BiFPN (resample_p6, fpn_cells) and its heads (class_net, box_net) are missing" in note
    for model in MODELS.values():
        named = f"{model.name}:" in note or f"{model.name} and" in note
        assert named == (model.backbone_name == name)


def test_the_account_itself_sees_what_is_lost():
    entries = entries_of(classification("efficientnet-lite0"))
    lost = "efficientnet-lite0/blocks_3/conv2d/kernel"
    fewer = {full: item for full, item in entries.items() if not full.startswith(lost)}
    ledger = backbone_account(listed(fewer))
    assert [item.name for item in ledger.findings] == [lost]
    assert unaccounted(ledger, fewer) != []
    with pytest.raises(InputError, match=r"file does not convert to .* \(--backbone\)"):
        ledger.require_complete("file")
    more = {**entries, "efficientnet-lite0/other/kernel": entry("efficientnet-lite0/other/kernel")}
    assert [item.name for item in backbone_account(listed(more)).findings] == [
        "efficientnet-lite0/other/kernel"
    ]


def test_a_detectors_backbone_can_be_had_alone():
    shapes = {
        variable: shape
        for pair in iterate_pairs(get_config("d0"))
        for variable, shape in pair.variable_shapes.items()
    }
    entries = entries_of(shapes)
    ledger = backbone_account(listed(entries))
    assert unaccounted(ledger, entries) == []
    outside = len(shapes) - len(own_shapes("efficientnet-b0"))
    reason = "BiFPN or head of a detector, which no backbone has"
    assert ledger.counts()[reason] == 2 * outside


def restored(case):
    """Which variable of the checkpoint official training puts into which of the model's."""
    return {there: here for there, here in case["restored"].items() if EMA_SUFFIX not in here}


@pytest.mark.parametrize("title", ["released backbone", "without averages"])
def test_raw_values_are_those_that_official_training_starts_from(title):
    case = OFFICIAL["restoring"][title]
    entries = with_shapes(case["checkpoint"])
    ledger = backbone_account(listed(entries), weights="raw")
    assert {row.variable for row in ledger.rows if row.use == "raw"} == set(restored(case))
    averages = {row.variable for row in backbone_account(listed(entries)).rows if row.use == "ema"}
    assert averages == {name for name in case["restored"] if name.endswith(EMA_SUFFIX)}


def test_another_scope_is_read_where_the_backbone_is_named():
    case = OFFICIAL["restoring"]["another scope named by ckpt_var_scope"]
    entries = with_shapes(case["checkpoint"])
    ledger = backbone_account(listed(entries), "efficientnet-b0", "raw")
    used = {row.variable: row.parameter for row in ledger.rows if row.use == "raw"}
    assert used == {
        "my_model/stem/conv2d/kernel": "backbone.stem_conv.weight",
        "my_model/stem/tpu_batch_normalization/moving_mean": "backbone.stem_bn.running_mean",
    }
    assert set(used) == set(restored(case))
    # Officially nothing is restored then, in silence.
    assert OFFICIAL["restoring"]["another scope not named"]["restored"] == {}
    with pytest.raises(InputError, match="no backbone under an official name .* --backbone eff"):
        backbone_account(listed(entries))


def test_no_scope_at_all():
    scoped = entries_of(classification("efficientnet-lite0"))
    bare = {
        name.removeprefix("efficientnet-lite0/"): entry(
            name.removeprefix("efficientnet-lite0/"), item.shape
        )
        for name, item in scoped.items()
    }
    ledger = backbone_account(listed(bare), "efficientnet-lite0")
    assert unaccounted(ledger, bare) == []
    findings = backbone_account(listed(bare), "efficientnet-lite1").findings
    assert findings and {item.kind for item in findings} >= {"missing"}


def test_another_width_is_a_finding():
    case = OFFICIAL["restoring"]["another width"]
    entries = with_shapes(case["checkpoint"])
    kernel = "efficientnet-b0/stem/conv2d/kernel"
    entries[kernel] = entry(kernel, (3, 3, 3, 48))
    assert kernel not in restored(case)
    findings = backbone_account(listed(entries), weights="raw").findings
    assert f"{kernel} has shape [3, 3, 3, 48], not [3, 3, 3, 32]" in map(str, findings)


def with_shapes(names):
    """Entries of these names with the shapes that they have in B0."""
    shapes = classification("efficientnet-b0")
    found = {}
    for name in names:
        base = name.replace("my_model/", "efficientnet-b0/")
        for suffix in (EMA_SUFFIX, *(f"/{slot}" for slot in SLOTS)):
            base = base.removesuffix(suffix)
        found[name] = entry(name, shapes.get(base, ()))
    return found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet-b1", "holds the backbone efficientnet-b0, not efficientnet-b1"),
        ("efficientnet-b9", r"no backbone 'efficientnet-b9' \(did you mean efficientnet-b\d"),
        ("efficientnet-b0/", "no backbone 'efficientnet-b0/'.*behind SOURCE and TARGET"),
    ],
)
def test_another_name_than_the_files(name, message):
    with pytest.raises(InputError, match=message):
        backbone_account(listed(entries_of(classification("efficientnet-b0"))), name)


def test_a_prefix_before_all_names_of_a_detector_or_a_backbone():
    detector = {
        f"model/{name}": entry(f"model/{name}", item.shape)
        for name, item in checkpoint(TINY).items()
    }
    alone = {name: item for name, item in detector.items() if "/efficientnet-tiny/" in name}
    for entries, name in (
        (detector, ANY_BACKBONE),
        (detector, TINY.backbone_name),
        (alone, ANY_BACKBONE),
    ):
        count = f"{len(entries)} of its {len(entries)}"
        with pytest.raises(
            InputError, match=f"before {count} names.*; give --strip-prefix model/ "
        ):
            backbone_account(listed(entries), name)
        stripped = without_prefix(listed(entries), "model/")
        assert not backbone_account(stripped, name).findings
    # Without a detector around it, a backbone's name may stand for whatever scope there is.
    assert not backbone_account(listed(alone), TINY.backbone_name).findings


def test_two_backbones_in_one_file():
    entries = entries_of(classification("efficientnet-b0") | classification("efficientnet-lite0"))
    with pytest.raises(InputError, match="efficientnet-b0, efficientnet-lite0; say which"):
        backbone_account(listed(entries), ANY_BACKBONE)
    findings = backbone_account(listed(entries), "efficientnet-b0").findings
    assert {item.name.split("/")[0] for item in findings} == {"efficientnet-lite0"}


def test_a_classification_network_is_no_detector():
    entries = entries_of(classification("efficientnet-b0"))
    with pytest.raises(InputError, match="a backbone alone: .* convert the backbone with --back"):
        choose_config(entries, "file")


def test_the_addresses_are_the_official_ones():
    known = OFFICIAL["addresses"]
    named = {name: backbone_address(name) for name in BACKBONES}
    assert set(filter(None, named.values())) == {*known["autoaugment"], *known["lite"]}
    for name, address in named.items():
        assert address is None or address.endswith(f"/{name}.tar.gz")


def test_scopes_of_any_length_and_number_stay_short():
    many = {f"{'x' * 900}{number}/stem/conv2d/kernel": (3, 3, 3, 32) for number in range(500)}
    entries = {name: entry(name, shape) for name, shape in many.items()}
    with pytest.raises(InputError, match="but holds 500 .* and 497 more") as caught:
        backbone_account(listed(entries), "efficientnet-b0")
    assert len(str(caught.value).encode()) < 1000
