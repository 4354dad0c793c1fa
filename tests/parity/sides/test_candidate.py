"""Candidates as code: what a function returns, and one sentence for whatever goes wrong."""

import sys

import pytest
import torch

from efficientdet_spec import InputError
from parity.sides.pytorch.code import Maker, check_function, failure, where

SIZE = (96, 128)
"""Of the images that a candidate is made for."""


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
        return Maker(path, function)(torch.nn.Linear(2, 3), SIZE)

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
    model = Maker(path, "build")(faithful, SIZE)
    assert model is not faithful and not model.weight.any()
    assert torch.equal(faithful.weight, before)


def test_a_class_can_be_named(made):
    code = "import torch\nclass Net(torch.nn.Module):\n    pass"
    assert type(made(code, "Net")).__name__ == "Net"


NET = """import torch
class Net(torch.nn.Module):
    def __init__(self{arguments}):
        super().__init__()
        self.given = ({given})
"""


@pytest.mark.parametrize(
    "arguments, given, kinds",
    [
        ("", "", ()),
        ("faithful", "faithful,", (torch.nn.Linear,)),
        ("faithful, size", "faithful, size", (torch.nn.Linear, tuple)),
        ("size, model", "size, model", (tuple, torch.nn.Linear)),
        ("size", "size,", (tuple,)),
        ("faithful, *, size", "faithful, size", (torch.nn.Linear, tuple)),
        ("faithful, size=7", "faithful, size", (torch.nn.Linear, int)),
        ("faithful, *more, **others", "faithful, more, others", (torch.nn.Linear, tuple, dict)),
    ],
)
def test_functions_and_classes_get_what_they_need(arguments, given, kinds, made):
    code = NET.format(arguments=f", {arguments}", given=given)
    of_class = made(code, "Net")
    plain = NET.format(arguments=", *given", given="*given,")
    of_function = made(f"{plain}\ndef build({arguments}):\n    return Net({given})")
    for model in (of_class, of_function):
        assert tuple(type(item) for item in model.given) == kinds
        sizes = [item for item in model.given if item == SIZE]
        assert len(sizes) == ("size" in arguments and "size=" not in arguments)
    # A class cannot say that it is in evaluation mode; a function that does not is told so.
    assert not of_class.training and of_function.training


@pytest.mark.parametrize(
    "arguments, others",
    [("coef, classes", "coef, classes"), ("coef, size, *, classes, c=1", "coef, classes")],
)
def test_other_arguments_are_named(arguments, others, refused):
    for code, name in (
        (NET.format(arguments=f", {arguments}", given=""), "Net"),
        (f"def build({arguments}): return None", "build"),
    ):
        assert (
            f":{name} needs the arguments {others}, but a candidate is made with at most two, "
            f"the faithful model and 'size', the images' (height, width); give a function that "
            f"calls it with the others."
        ) in refused(code, name)


def test_a_file_is_run_once_for_all_sizes(tmp_path):
    path = tmp_path / "port.py"
    path.write_text(
        "import torch\nsizes = []\ndef build(size):\n    sizes.append(size)\n"
        "    model = torch.nn.Identity()\n    model.seen = list(sizes)\n    return model"
    )
    maker = Maker(path, "build")
    assert maker.sized
    assert maker(torch.nn.Identity(), (1, 2)).seen == [(1, 2)]
    assert maker(torch.nn.Identity(), (3, 4)).seen == [(1, 2), (3, 4)]


def test_files_beside_it_can_be_imported(made, tmp_path):
    (tmp_path / "beside.py").write_text("import torch\nlayer = torch.nn.ReLU()")
    assert isinstance(made("import beside\ndef build(): return beside.layer"), torch.nn.ReLU)


def test_no_such_file(tmp_path):
    for path, what in ((tmp_path / "missing.py", "does not exist"), (tmp_path, "is not a file")):
        with pytest.raises(InputError, match=f"{what}; give the path of a Python file"):
            Maker(path, "build")


def test_no_such_function(refused):
    assert "has no function 'build'; it has make, other" in refused(
        "def make(): pass\ndef other(): pass"
    )
    assert "has no function 'build'; it has none" in refused("build = 3")
    assert "has no function ''" in refused("", "")


@pytest.mark.parametrize(
    "code, error",
    [
        ("raise ValueError('first\\nsecond')", "fails with ValueError: first at "),
        ("import no_such_module_here", "fails with ModuleNotFoundError: No module named"),
        ("def build(: pass", "fails with SyntaxError"),
        ("import sys; sys.exit(3)", "fails with SystemExit: 3"),
        ("def build(): return 1 / 0", ":build fails with ZeroDivisionError: division by zero"),
        (
            "def build(classes): return range(classes)",
            ":build, called with the faithful model as its argument 'classes', fails with Type",
        ),
        ("def build(): raise RuntimeError()", ":build fails with RuntimeError"),
        ("import sys\ndef build(): sys.exit('bye')", ":build fails with SystemExit: bye"),
        ("class Stop(BaseException): pass\nraise Stop('now')", "fails with Stop: now at "),
        ("def __getattr__(name): raise OSError('no')", "fails with OSError: no at "),
        ("text = '\x00'", "fails with "),
    ],
)
def test_code_that_fails(code, error, refused):
    assert error in refused(code)


@pytest.mark.parametrize("value, kind", [("None", "NoneType"), ("{}", "dict"), ("type", "type")])
def test_what_is_no_module(value, kind, refused):
    assert f"is of type {kind}; it must be a torch.nn.Module" in refused(
        f"def build(): return {value}"
    )


IN_TORCH = """import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = x + 1
        return self.conv(x[:, :2])
"""


@pytest.mark.parametrize(
    "code, place",
    [
        ("x = 1\nraise ValueError('no')", "my model.py:2;"),
        ("def build():\n    return 1 / 0", "my model.py:2 (in build);"),
        ("def inner():\n    int('x')\ndef build():\n    inner()", "my model.py:2 (in inner);"),
        # The innermost line is in PyTorch, or in Python's library.
        ("import torch\ndef build():\n\n    torch.zeros(2, 3) @ torch.zeros(2)", ":4 (in build);"),
        ("import json\ndef build():\n    json.loads('{')", "my model.py:3 (in build);"),
        ("x = 1\n\ndef build(: pass", "my model.py:3;"),
        ("import beside_broken", "beside_broken.py:2;"),
        (
            "import beside_failing\ndef build():\n    beside_failing.f()",
            "beside_failing.py:2 (in f);",
        ),
        ("def build():\n    return build()", "my model.py:2 (in build);"),
    ],
)
def test_where_a_candidate_fails_is_said(code, place, refused, tmp_path):
    (tmp_path / "beside_broken.py").write_text("x = 1\ndef f(: pass")
    (tmp_path / "beside_failing.py").write_text("def f():\n    raise KeyError('missing')")
    assert f"{place} run it by itself and correct it" in refused(code)


def test_where_a_forward_fails(made, tmp_path):
    net = made(IN_TORCH, "Net")
    with pytest.raises(RuntimeError) as raised:
        net(torch.zeros(1, 3, 8, 8))
    file = tmp_path / "my model.py"
    assert where(raised.value) == f"{file}:9 (in forward)"
    assert failure(raised.value).startswith("RuntimeError: Given groups=1")
    assert failure(raised.value).endswith(f" at {file}:9 (in forward)")


def test_files_are_shown_relative_to_the_current_folder(made, tmp_path, monkeypatch):
    net = made(IN_TORCH, "Net")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError) as raised:
        net(torch.zeros(1, 3, 8, 8))
    assert where(raised.value) == "my model.py:9 (in forward)"


def test_where_nothing_is_known_nothing_is_said():
    assert where(ValueError("never raised")) == ""
    assert failure(ValueError()) == "ValueError"
    with pytest.raises(InputError) as raised:
        exec("raise InputError('x')", {"InputError": InputError, "__builtins__": {}})
    raised.value.__traceback__ = raised.value.__traceback__.tb_next
    assert where(raised.value) == ""


def test_an_interrupt_is_no_failure_of_the_candidate(made):
    for code in ("raise KeyboardInterrupt", "def build():\n    raise KeyboardInterrupt"):
        with pytest.raises(KeyboardInterrupt):
            made(code)


@pytest.mark.parametrize(
    "code",
    [
        "def build(): pass",
        "class build: pass",
        "build = make()",
        "if True:\n    from elsewhere import make as build",
        "import build",
        "from elsewhere import *",
        "globals()['build'] = make",
    ],
)
def test_what_a_file_may_have_is_not_refused_unread(code, tmp_path):
    path = tmp_path / "port.py"
    path.write_text(code)
    check_function(path, "build")


@pytest.mark.parametrize(
    "code, said",
    [
        ("def make(): pass", "port.py has no function 'build'; it has make."),
        ("# build\n'build'", "port.py has no function 'build'; it has none."),
        ("def build(:", "port.py cannot be read as Python"),
    ],
)
def test_what_a_file_cannot_have_is_refused_unread(code, said, tmp_path):
    path = tmp_path / "port.py"
    path.write_text(code)
    with pytest.raises(InputError) as caught:
        check_function(path, "build")
    assert said in str(caught.value)
