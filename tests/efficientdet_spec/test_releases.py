"""What is known of Google's releases is Google's, and a mirror takes the storage's place."""

import ast

import pytest

from converter.bundle import read_index
from efficientdet_spec import OFFICIAL_MODELS, releases
from efficientdet_spec.releases import STORAGE_URL, archive_address


def test_every_official_model_has_both_figures():
    assert tuple(releases.AP_VAL) == tuple(releases.AP_TEST_DEV) == tuple(OFFICIAL_MODELS)
    for known in (releases.ARCHIVE_SHA256, releases.FINGERPRINTS):
        assert set(known) <= set(OFFICIAL_MODELS)
        assert all(len(value) == 64 for value in known.values())


def test_the_files_are_googles(test_data):
    for model, (name, ap) in releases.AP_VAL_FILES.items():
        text = (test_data / "official" / name.rpartition("/")[2]).read_text()
        assert ast.literal_eval(text.strip())["AP"] == ap, model


@pytest.mark.parametrize("model", releases.FINGERPRINTS)
def test_the_fingerprints_are_those_of_googles_index_files(test_data, model):
    path = test_data / "official" / "index" / f"{model}.coco2.index"
    assert read_index(path).fingerprint() == releases.FINGERPRINTS[model]


def test_where_official_names_are_downloaded(monkeypatch):
    monkeypatch.delenv("EFFICIENTDET_DOWNLOADS", raising=False)
    assert archive_address("efficientdet-d4") == f"{STORAGE_URL}/efficientdet-d4.tar.gz"
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", "")
    assert archive_address("efficientdet-d4") == f"{STORAGE_URL}/efficientdet-d4.tar.gz"
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", "http://mirror/folder/")
    assert archive_address("efficientdet-d4") == "http://mirror/folder/efficientdet-d4.tar.gz"
