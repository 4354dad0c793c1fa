"""Candidates as code: what a function returns, and one sentence for whatever goes wrong."""

import sys

import pytest
import torch

from efficientdet_spec import InputError
from parity.torch_side.candidate import from_code, where


@pytest.fixture(autouse=True)
def imports():
    """What a candidate adds to the modules and folders of imports goes again."""
    modules, folders = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = folders
    for name in set(sys.modules) - modules:
        if name.startswith(("candidate_", "beside")):
            del sys.modules[name]


@pytest.fixture
def made(tmp_path):
    """What a function of a file gives, by default with a faithful model of one layer."""

    def make(code, function="build"):
        path = tmp_path / "my model.py"
        path.write_text(code)
        return from_code(path, function, torch.nn.Linear(2, 3))

    return make


@pytest.fixture
def refused(made, tmp_path):
    def make(code, function="build"):
        with pytest.raises(InputError) as raised:
            made(code, function)
        assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)
        return str(raised.value)

    return make


def test_a_function_without_arguments(made):
    model = made("import torch\ndef build(bias=True): return torch.nn.Conv2d(1, 2, 3, bias=bias)")
    assert isinstance(model, torch.nn.Conv2d) and model.bias is not None


def test_a_function_that_takes_the_faithful_model_gets_a_copy(tmp_path):
    path = tmp_path / "model.py"
    path.write_text("def build(model):\n    model.weight.data.zero_()\n    return model")
    faithful = torch.nn.Linear(2, 3)
    before = faithful.weight.clone()
    model = from_code(path, "build", faithful)
    assert model is not faithful and not model.weight.any()
    assert torch.equal(faithful.weight, before)


def test_a_class_can_be_named(made):
    code = "import torch\nclass Net(torch.nn.Module):\n    pass"
    assert type(made(code, "Net")).__name__ == "Net"


def test_files_beside_it_can_be_imported(made, tmp_path):
    (tmp_path / "beside.py").write_text("import torch\nlayer = torch.nn.ReLU()")
    assert isinstance(made("import beside\ndef build(): return beside.layer"), torch.nn.ReLU)


def test_no_such_file(tmp_path):
    for path in (tmp_path / "missing.py", tmp_path):
        with pytest.raises(InputError, match="does not exist; give the path of a Python file"):
            from_code(path, "build", torch.nn.Identity())


def test_no_such_function(refused):
    assert "has no function 'build'; it has make, other" in refused(
        "def make(): pass\ndef other(): pass"
    )
    assert "has no function 'build'; it has none" in refused("build = 3")
    assert "has no function ''" in refused("", "")


@pytest.mark.parametrize(
    "code, error",
    [
        ("raise ValueError('first\\nsecond')", "fails with ValueError: first; run it by itself"),
        ("import no_such_module_here", "fails with ModuleNotFoundError: No module named"),
        ("def build(: pass", "fails with SyntaxError"),
        ("import sys; sys.exit(3)", "fails with SystemExit: 3"),
        ("def build(): return 1 / 0", ":build fails with ZeroDivisionError: division by zero"),
        ("def build(a, b): return a", ":build fails with TypeError"),
        ("def build(): raise RuntimeError()", ":build fails with RuntimeError"),
        ("import sys\ndef build(): sys.exit('bye')", ":build fails with SystemExit: bye"),
    ],
)
def test_code_that_fails(code, error, refused):
    assert error in refused(code)


@pytest.mark.parametrize("value, kind", [("None", "NoneType"), ("{}", "dict"), ("type", "type")])
def test_what_is_no_module(value, kind, refused):
    assert f":build returns {kind}; it must return a torch.nn.Module" in refused(
        f"def build(): return {value}"
    )


def test_an_error_is_placed_at_the_last_line_of_the_candidates_own(made, tmp_path):
    model = made(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.nn.functional.conv2d(x, x[0])\n"
        "def build(): return Net()"
    )
    with pytest.raises(RuntimeError) as raised:
        model(torch.zeros(1, 2, 3))
    assert where(raised.value) == f" (at {tmp_path / 'my model.py'}, line 4)"
    assert where(RuntimeError("never raised")) == ""
