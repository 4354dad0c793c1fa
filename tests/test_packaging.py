"""What is installed is what is here."""

from pathlib import Path

import pytest

from parity.process.frames import PACKAGES, SCRIPTS

ROOT = Path(__file__).parents[1]


def listed():
    """The packages that the project's description names."""
    text = (ROOT / "pyproject.toml").read_text()
    inside = text.partition("packages = [")[2].partition("]")[0]
    return {line.strip().strip('",') for line in inside.strip().splitlines()}


def found(root):
    """The folders with Python files under the top-level packages, as packages."""
    files = [path for top in PACKAGES for path in (root / top).rglob("*.py")]
    return {".".join(path.parent.relative_to(root).parts) for path in files}


def test_every_package_is_installed():
    assert listed() == found(ROOT)


def test_the_scripts_that_other_processes_run_are_installed():
    text = (ROOT / "pyproject.toml").read_text()
    modules = ", ".join(f'"{Path(name).stem}"' for name in SCRIPTS)
    assert f"py-modules = [{modules}]" in text


def test_every_package_says_what_it_is():
    for name in found(ROOT):
        text = ROOT.joinpath(*name.split("."), "__init__.py").read_text()
        assert text.startswith('"""'), name


def test_a_package_that_is_not_listed_is_found(tmp_path):
    new = tmp_path / "parity" / "new"
    new.mkdir(parents=True)
    (new / "module.py").touch()
    with pytest.raises(AssertionError):
        assert found(tmp_path) <= listed()
