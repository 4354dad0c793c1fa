"""What is known of Google's releases is Google's, and a mirror takes the storage's place."""

import ast
import json
from pathlib import Path

import pytest

from converter.tensorflow_files.bundle import read_index
from efficientdet_spec import (
    FIRST_RELEASES,
    LITE_MODELS,
    OFFICIAL_MODELS,
    VARIANTS,
    get_config,
    releases,
)
from efficientdet_spec.releases import (
    RELEASES,
    ROOT_URL,
    STORAGE_URL,
    archive_address,
    read_releases,
    release_at,
    release_in,
    release_of_content,
)

FILE = Path(releases.__file__).with_name("releases.json")


def test_every_release_is_of_a_model_and_has_a_figure():
    assert tuple(RELEASES)[: len(OFFICIAL_MODELS)] == tuple(OFFICIAL_MODELS)
    assert set(RELEASES) == {*OFFICIAL_MODELS, *FIRST_RELEASES, *VARIANTS, *LITE_MODELS}
    for name, release in RELEASES.items():
        assert get_config(release.model) == get_config(name)
        assert release.ap_source
        assert (release.ap_val is None) == (release.ap_test_dev is None)
        # A table that does not say on which images is never taken for one of val2017.
        assert (release.ap_val is None) == (release.ap_unspecified is not None)
    assert set(releases.AP_VAL) == set(releases.AP_TEST_DEV) >= set(OFFICIAL_MODELS)


def test_the_files_are_googles(test_data):
    for model, (name, ap) in releases.AP_VAL_FILES.items():
        # The file is rounded to one decimal of a percent in the table that it belongs to.
        if RELEASES[model].name != "efficientdet-d3":
            assert abs(RELEASES[model].ap_val - ap) <= 0.00051, model
        text = (test_data / "official" / name.rpartition("/")[2]).read_text()
        assert ast.literal_eval(text.strip())["AP"] == ap, model


@pytest.mark.parametrize("name", releases.FINGERPRINTS)
def test_the_fingerprints_are_those_of_googles_index_files(test_data, name):
    release = RELEASES[name]
    folder = release.path.partition("/")[0]
    path = test_data / "official" / "index" / f"{release.model}.{folder}.index"
    assert read_index(path).fingerprint() == release.fingerprint
    assert release_of_content(release.fingerprint) is release


def test_every_known_index_file_has_a_fingerprint(test_data):
    known = {item.fingerprint for item in RELEASES.values()}
    training = {item.training_fingerprint for item in RELEASES.values()}
    for path in (test_data / "official" / "index").glob("*.index"):
        fingerprint = read_index(path).fingerprint()
        assert fingerprint in (training if ".training." in path.name else known), path.name
        # What is known of a training checkpoint does not tell its preprocessing.
        assert (release_of_content(fingerprint) is None) == (".training." in path.name)


@pytest.mark.parametrize("name", RELEASES)
def test_releases_are_recognised_by_address(name, monkeypatch):
    monkeypatch.delenv("EFFICIENTDET_DOWNLOADS", raising=False)
    release = RELEASES[name]
    assert archive_address(name) == f"{ROOT_URL}/{release.path}"
    assert release_at(archive_address(name)) is release
    assert release_at(f"http://mirror/any/{release.path}") is release
    assert release_at(f"C:\\automl\\efficientdet\\{release.path}".replace("/", "\\")) is release
    assert release_at(f"http://mirror/other-{release.path}") is None
    assert release_at(f"http://mirror/{release.file}") is None
    assert release_at(f"http://mirror/{release.path}.part") is None


@pytest.mark.parametrize("name", RELEASES)
def test_releases_are_recognised_by_folder_where_it_tells(name):
    release = RELEASES[name]
    variant = name in VARIANTS or name in FIRST_RELEASES
    for folder in (name, f"/data/{name}", f"C:\\data\\{name}", f"{name}.tar.gz"):
        # Any release of D0 may lie in a folder called efficientdet-d0.
        assert release_in(folder) is (release if variant else None)
    nested = release_in(f"/data/{release.folder}")
    assert nested is (release if name in VARIANTS else None)
    assert release_in(f"/data/my-{name}") is None and release_in(f"/data/{name}-mine") is None


def test_a_folder_called_coco_is_anybodys():
    assert release_at("/home/me/coco/efficientdet-d0.tar.gz") is None
    assert release_in("/home/me/coco/efficientdet-d0") is None


def test_where_official_names_are_downloaded(monkeypatch):
    monkeypatch.delenv("EFFICIENTDET_DOWNLOADS", raising=False)
    assert archive_address("efficientdet-d4") == f"{STORAGE_URL}/efficientdet-d4.tar.gz"
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", "")
    assert archive_address("efficientdet-d4") == f"{STORAGE_URL}/efficientdet-d4.tar.gz"
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", "http://mirror/folder/")
    assert archive_address("efficientdet-d4") == "http://mirror/folder/efficientdet-d4.tar.gz"
    inside = "http://mirror/folder/advprop/efficientdet-d4.tar.gz"
    assert archive_address("efficientdet-d4-advprop") == inside
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", "http://mirror/coco2")
    assert (
        archive_address("efficientdet-d4-640") == "http://mirror/coco640/efficientdet-d4-640.tar.gz"
    )


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
    assert found["efficientdet-d1"] == RELEASES["efficientdet-d1"]


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
        ({"ema_values": "0" * 63}, "ema_values is"),
        ({"raw_values": 1}, "raw_values is 1, expected 64 lower-case hexadecimal digits"),
        (
            {"raw_values": RELEASES["efficientdet-d0"].ema_values},
            "two releases have the same ema_values",
        ),
        ({"ap_val_file": {"name": "x"}}, "ap_val_file is"),
        ({"ap_val_file": {"name": 1, "ap": 0.3}}, "ap_val_file is"),
        ({"ap_vale": 0.343}, "expected an object with some of"),
        ({"model": None}, "efficientdet-d0: model is missing"),
        ({"model": "efficientdet-d9"}, "model is 'efficientdet-d9', expected the name of a model"),
        ({"model": "efficientdet-d1"}, "not what the name stands for"),
        ({"path": "../x.tar.gz"}, "path is '../x.tar.gz', expected a folder and an archive"),
        ({"path": "coco2/efficientdet-d1.tar.gz"}, "two releases have the same path"),
        ({"ap_source": ""}, "ap_source is ''"),
        ({"container": "tf3"}, "container is 'tf3', expected tf1 or tf2"),
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
