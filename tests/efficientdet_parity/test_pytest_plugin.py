"""The plugin in a project of somebody else, in processes of its own."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "efficientdet_parity.pytest_plugin"
TEST = """
import sys
import pytest

WITHOUT_TENSORFLOW = {without}

@pytest.mark.parametrize("function", {functions})
def test_port(efficientdet_reference, function):
    import numpy
    if WITHOUT_TENSORFLOW:
        sys.modules["tensorflow"] = None
    import port
    images = numpy.random.default_rng(0).standard_normal((1, 128, 128, 3)).astype("float32")
    model = getattr(port, function)()
    efficientdet_reference.compare(model, images=images).assert_parity()
"""
OTHER = """
def test_other():
    import sys
    assert not {"tensorflow", "torch", "numpy"} & set(sys.modules)
"""
PORT = """
import efficientdet_parity
from faults.fusion import zero_padded

def right():
    return efficientdet_parity.load({pth!r})

def wrong():
    model = right()
    for name, pool in model.named_modules():
        if name.startswith("fpn.") and name.endswith(".pool"):
            pool.forward = lambda x, size, pool=pool: zero_padded(pool, x, size)
    return model

def failing():
    model = right()
    model.box_head.forward = lambda features: features.out_of_order
    return model
"""


@pytest.fixture
def project(tmp_path, tiny_pth):
    """A project with a port and tests; returns what runs pytest there."""
    (tmp_path / "port.py").write_text(PORT.format(pth=str(tiny_pth)))
    (tmp_path / "test_other.py").write_text(OTHER)
    paths = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*arguments, functions=("right",), ini="", plugin=("-p", PLUGIN), without=True):
        (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers\n{ini}\n")
        (tmp_path / "test_port.py").write_text(TEST.format(functions=functions, without=without))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        return done.returncode, done.stdout + done.stderr

    return run


needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


def test_a_right_port_passes_and_wrong_ones_are_told_about_without_our_own_code(
    project, tiny_checkpoint
):
    ini = f"efficientdet_checkpoint = {tiny_checkpoint}\nefficientdet_threads = 1"
    code, said = project("test_port.py", ini=ini, functions=("right", "wrong", "failing"))
    assert (code, "2 failed, 1 passed" in said) == (1, True), said
    for told in (
        r"\nE +AssertionError: fpn\.[\w.]+\.pool: padded with zeros instead of -inf",
        r"has no attribute 'out_of_order' at port\.py:17",
    ):
        assert re.search(told, said), said
    assert said.count("test_port.py:15") == 2
    for package in ("parity/", "efficientdet_parity/", "torch_model/"):
        assert package not in said.partition("= FAILURES =")[2], said


@needs_tensorflow
@pytest.mark.heavy
def test_the_graph_is_the_reference_where_it_is_asked_for(project, tiny_checkpoint):
    ini = f"efficientdet_checkpoint = {tiny_checkpoint}\nefficientdet_reference = graph"
    code, said = project("test_port.py", ini=ini)
    assert code == 1 and "The reference needs tensorflow" in said, said
    options = ("--efficientdet-reference", "graph", "test_port.py")
    code, said = project(*options, ini=ini.replace("= graph", "= exact"), without=False)
    assert (code, "1 passed" in said) == (0, True), said


@pytest.mark.parametrize(
    "options, told",
    [
        ((), "efficientdet_reference needs a checkpoint; set efficientdet_checkpoint in"),
        (
            ("--efficientdet-checkpoint=nowhere",),
            "efficientdet_checkpoint = nowhere, efficientdet_reference = exact: source 'nowhere'",
        ),
    ],
)
def test_a_missing_checkpoint_is_told_in_a_sentence(project, options, told):
    # The command line's comes before that of the file.
    ini = "efficientdet_checkpoint = elsewhere" if options else ""
    code, said = project("test_port.py", *options, ini=ini)
    assert (code, told in said) == (1, True), said
    assert "During handling" not in said and "pytest_plugin.py" not in said


def test_tests_are_marked_and_can_be_left_out(project):
    code, said = project("-m", "not efficientdet_parity")
    # The one that is left looks for frameworks.
    assert (code, "1 passed, 1 deselected" in said) == (0, True), said
    code, said = project("-m", "efficientdet_parity", "--collect-only", "-q")
    assert "test_port.py::test_port[right]" in said and "test_other" not in said


def test_the_option_and_the_marker_are_listed(project):
    assert "--efficientdet-checkpoint=CHECKPOINT" in project("--help")[1]
    assert "@pytest.mark.efficientdet_parity: compares a port" in project("--markers")[1]


def test_pytest_can_do_without_the_plugin(project):
    code, said = project("test_other.py", plugin=("-p", f"no:{PLUGIN}"))
    assert (code, "1 passed" in said) == (0, True), said


def test_pytest_finds_the_plugin():
    entry = f'[project.entry-points.pytest11]\nefficientdet-parity = "{PLUGIN}"'
    assert entry in (ROOT / "pyproject.toml").read_text()
