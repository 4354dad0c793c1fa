"""What is known of Google's releases is Google's, and a mirror takes the storage's place."""

import ast
import json
from pathlib import Path

import pytest

from converter.bundle import read_index
from efficientdet_spec import OFFICIAL_MODELS, releases
from efficientdet_spec.releases import STORAGE_URL, archive_address, read_releases

FILE = Path(releases.__file__).with_name("releases.json")


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


def file(**changes):
    """The file as it is, with changes to what is known of D0; None takes something away."""
    models = json.loads(FILE.read_text("utf-8"))
    known = {**models["efficientdet-d0"], **changes}
    models["efficientdet-d0"] = {name: item for name, item in known.items() if item is not None}
    return json.dumps(models).encode()


def test_the_sizes_are_known_where_the_digests_are():
    assert dict(releases.ARCHIVE_BYTES) == {
        "efficientdet-d0": 28_828_936,
        "efficientdet-d1": 48_828_228,
    }
    assert set(releases.ARCHIVE_BYTES) == set(releases.ARCHIVE_SHA256)


def test_what_is_not_known_may_be_left_out():
    found = read_releases(file(archive_sha256=None, ap_val_file=None))
    assert found["efficientdet-d0"].archive_sha256 is None
    assert found["efficientdet-d1"] == releases._RELEASES["efficientdet-d1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ap_val": None}, "efficientdet-d0: ap_val is missing"),
        ({"ap_test_dev": None}, "ap_test_dev is missing"),
        ({"ap_val": 34.3}, "ap_val is 34.3, expected a number between 0 and 1"),
        ({"ap_val": "0.343"}, "ap_val is '0.343'"),
        ({"ap_val": float("nan")}, "ap_val is nan"),
        ({"ap_test_dev": True}, "ap_test_dev is True"),
        ({"archive_bytes": 0}, "archive_bytes is 0, expected a positive whole number"),
        ({"archive_bytes": 1.5}, "archive_bytes is 1.5"),
        ({"archive_sha256": "74794C" + "0" * 58}, "expected 64 lower-case hexadecimal digits"),
        ({"fingerprint": "0" * 63}, "fingerprint is"),
        ({"fingerprint": "0" * 64 + "\n"}, "fingerprint is"),
        ({"ap_val_file": {"name": "x"}}, "ap_val_file is"),
        ({"ap_val_file": {"name": 1, "ap": 0.3}}, "ap_val_file is"),
        ({"ap_vale": 0.343}, "expected an object with some of"),
    ],
)
def test_a_file_with_a_mistake_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        read_releases(file(**changes))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"efficientdet-d0": {}}', b"\xff"])
def test_a_file_of_something_else_is_refused(content):
    with pytest.raises(ValueError):
        read_releases(content)


def test_the_file_is_installed():
    text = (FILE.parents[1] / "pyproject.toml").read_text("utf-8")
    assert f'efficientdet_spec = ["{FILE.name}"]' in text
