"""Optional packages: what an extra brings, and a hint that works where it is missing."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from efficientdet_spec import EXTRAS, Cause, InputError, extras, install_command, require_extra

ROOT = Path(__file__).parents[2]


def test_in_a_checkout_the_project_is_installed_with_the_extra():
    assert install_command("tensorflow") == f"pip install '{ROOT}[tensorflow]'"


def test_elsewhere_the_packages_of_the_extra_are(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(
        metadata,
        "requires",
        lambda name: [
            "numpy>=1.26",
            'tensorflow>=2.16; extra == "tensorflow"',
            "opencv-python>=4.8; extra == 'images'",
            'simplejpeg>=1.8; extra == "images"',
        ],
    )
    assert install_command("tensorflow") == "pip install 'tensorflow>=2.16'"
    assert install_command("images") == "pip install 'opencv-python>=4.8' 'simplejpeg>=1.8'"

    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    assert install_command("tensorflow") == "pip install tensorflow"


def test_what_is_missing_is_named(monkeypatch):
    require_extra("images", "Drawing")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        InputError, match="^Drawing needs cv2, which is not installed; run "
    ) as error:
        require_extra("images", "Drawing")
    assert error.value.cause is Cause.MISSING_PACKAGE


def test_the_extras_are_those_of_the_project():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    names = {line.partition(" =")[0] for line in section.strip().splitlines()}
    assert names - {"test", "dev"} == set(EXTRAS)
