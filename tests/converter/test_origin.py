"""Which release a checkpoint is decides what its variables do not show, and that is said."""

from pathlib import Path

import numpy as np
import pytest
from listed_source import listed

from converter import conversion
from converter.conversion import account
from converter.fetch.cached import CheckpointFiles
from converter.mappings.official import iterate_pairs
from converter.origin import model_of_name, recognise_release
from converter.tensorflow_files.bundle import BundleEntry, read_index
from efficientdet_spec import (
    EMA_SUFFIX,
    FIRST_RELEASES,
    VARIANTS,
    InputError,
    base_model,
    get_config,
)
from efficientdet_spec.releases import ARCHIVE_SHA256, RELEASES, archive_address


def files(folder="/data/mine", origin=None, official=None, archive=None):
    """A checkpoint in a folder; or, with an origin, unpacked from an archive from there."""
    if origin is None and official is None:
        return CheckpointFiles(Path(folder) / "model", f"{folder}/model", None)
    origin = origin or archive_address(official)
    return CheckpointFiles(Path("/cache/model"), origin, archive or "0" * 64, official)


@pytest.fixture
def holding(monkeypatch):
    """Lets every checkpoint have the variables of a model, with values that nobody knows."""

    def hold(model, classes=90):
        entries = {
            full: BundleEntry(full, np.dtype("<f4"), "DT_FLOAT", shape, 0, 0, 0, 1)
            for pair in iterate_pairs(get_config(model).with_classes(classes))
            for name, shape in pair.variable_shapes.items()
            for full in (name, name + EMA_SUFFIX)
        }
        monkeypatch.setattr(conversion, "open_source", lambda files: listed(entries, files.prefix))

    return hold


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_told_by_origin_alone(holding, name):
    plain = base_model(name)
    holding(plain)
    path = RELEASES[name].path
    for found, how in (
        (files(origin=archive_address(name)), "by its address"),
        (files(origin=f"http://mirror/x/{path}"), "by its address"),
        (files(origin=f"/data/{name}.tar.gz"), "by its folder"),
        (files(folder=f"/data/{name}"), "by its folder"),
        (files(folder=f"/data/{RELEASES[name].folder}"), "by its folder"),
        (files(official=name), "by its official name"),
    ):
        ledger = account(found)
        assert ledger.config == get_config(name), found
        assert recognise_release(found, "").how == how
        alike = "efficientdet-d6 and efficientdet-d7" if plain == "efficientdet-d6" else plain
        said = f"Taken for {name} {how}; its variables are those of {alike} too."
        assert ledger.notes == (() if found.official_model else (said,))


def test_nothing_in_the_variables_tells_a_variant(holding):
    holding("d3")
    for found in (files(), files(folder="/data/efficientdet-d3"), files(origin="http://x/y.tgz")):
        ledger = account(found)
        assert ledger.config == get_config("d3") and ledger.notes == ()
        assert recognise_release(found, "") is None


@pytest.mark.parametrize("name", FIRST_RELEASES)
def test_the_first_release_has_todays_models(holding, name):
    holding(FIRST_RELEASES[name])
    found = files(official=name)
    assert account(found).config == get_config(FIRST_RELEASES[name])
    assert recognise_release(found, "").release is RELEASES[name]


def test_classes_of_ones_own_stay(holding):
    holding("d0", classes=3)
    config = account(files(folder="/data/efficientdet-d0-advprop")).config
    assert config == get_config("d0-advprop").with_classes(3)


def test_what_is_asked_for_wins_over_what_somebody_called_it(holding):
    holding("d0")
    found = files(folder="/data/efficientdet-d0-advprop")
    ledger = account(found, model="efficientdet-d0")
    assert ledger.config == get_config("d0")
    assert ledger.notes == (
        "The checkpoint is efficientdet-d0-advprop by its folder, but efficientdet-d0 was asked "
        "for.",
    )
    ledger = account(files(), model="efficientdet-d0-advprop")
    assert ledger.config == get_config("d0-advprop") and ledger.notes == ()


def test_a_name_that_the_variables_contradict_counts_for_nothing(holding):
    holding("d1")
    found = files(folder="/data/efficientdet-d0-advprop")
    assert account(found).config == get_config("d1") and account(found).notes == ()
    with pytest.raises(InputError, match="variables of efficientdet-d1, not of efficientdet-d0"):
        account(files(official="efficientdet-d0-advprop"))


def test_twins_are_told_by_name(holding):
    """D6 and D7 have the same variables; without a name they stay undecided."""
    holding("d7")
    with pytest.raises(InputError, match="fits efficientdet-d6 and efficientdet-d7 alike"):
        account(files())
    names = ("efficientdet-d6", "efficientdet-d7")
    for model, other in (names, names[::-1]):
        for found in (files(folder=f"/data/{model}"), files(origin=f"/data/{model}.tar.gz")):
            ledger = account(found)
            assert ledger.config == get_config(model) and model_of_name(found) == model
            said = f"Taken for {model} by its folder; its variables are those of {other} too."
            assert ledger.notes == (said,)
    assert account(files(folder="/data/efficientdet-d6-640")).config == get_config("d6-640")
    assert account(files(), model="d6-640").config == get_config("d6-640")


def test_known_content_outweighs_every_name(test_data):
    index = test_data / "official" / "index" / "efficientdet-d0.coco2.index"
    here = CheckpointFiles(index.with_suffix(""), str(index), None)
    found = recognise_release(here, read_index(index).fingerprint())
    assert found.release.name == "efficientdet-d0" and found.how == "by its content"
    assert account(here).notes == () and found.certain
    named = CheckpointFiles(here.prefix, archive_address("efficientdet-d0-advprop"), "0" * 64)
    assert account(named).config == get_config("d0") and account(named).notes == ()
    for model, official in (("d0-advprop", None), (None, "efficientdet-d0-advprop")):
        asked = CheckpointFiles(here.prefix, "x", "0" * 64, official)
        with pytest.raises(InputError, match="Google's efficientdet-d0 by its content, not eff"):
            account(asked, model=model)
    for model, official in (("d0-2020-03", None), (None, "efficientdet-d0-2020-03")):
        asked = CheckpointFiles(here.prefix, "x", "0" * 64, official)
        with pytest.raises(InputError, match="by its content, not efficientdet-d0-2020-03"):
            account(asked, model=model)
    first = CheckpointFiles(index.with_name("efficientdet-d0.coco"), "x", None)
    assert account(first, model="d0-2020-03").config == account(first, model="d0").config
    content = read_index(index.with_name("efficientdet-d0.coco.index")).fingerprint()
    assert recognise_release(first, content).release.name == "efficientdet-d0-2020-03"
    assert account(first).config == get_config("d0")


def test_an_archive_of_known_bytes_is_that_release():
    found = files(origin="/somewhere/renamed.tar.gz", archive=ARCHIVE_SHA256["efficientdet-d1"])
    assert recognise_release(found, "").release.name == "efficientdet-d1"
