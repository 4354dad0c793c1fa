"""A program that only shows or converts starts in a process that knows no framework."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from efficientdet_parity import command_line
from efficientdet_parity.command_line import COMMANDS, COMPARISONS
from parity.commands.asking.command_line import command_parser
from parity.settings.option import settings_of

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("torch", "tensorflow", "cv2", "numba")

START = """
import runpy, sys
sys.argv = {argv!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__") if sys.argv[0].endswith(".py") else (
        runpy.run_module(sys.argv[0], run_name="__main__"))
except SystemExit as ended:
    assert not ended.code, ended.code
print("LOADED", *(name for name in {watched!r} if name in sys.modules))
"""


def loaded(argv, watched, before=""):
    """Which of some modules a program has imported when it ends, in a fresh process."""
    code = before + START.format(argv=list(map(str, argv)), watched=watched)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("LOADED")[2].split()


PROGRAMS = ("convert.py", "compare.py", "efficientdet_parity")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("word", ["--help", "--version"])
def test_what_is_shown_needs_nothing_else(program, word):
    watched = (*FRAMEWORKS, "numpy", "converter", "torch_model", "yaml")
    assert loaded([program, word], watched) == []


@pytest.mark.parametrize("command", [item.name for item in COMMANDS])
def test_help_of_a_command_imports_no_other(command):
    watched = (*FRAMEWORKS, "numpy", "converter", *(item.module for item in COMMANDS), "shtab")
    assert loaded(["efficientdet_parity", command, "--help"], watched) == []


@pytest.mark.parametrize("words", [("models",), ("inspect", "CHECKPOINT")], ids=" ".join)
def test_lists_and_accounts_need_no_framework(words, tiny_checkpoint):
    argv = [tiny_checkpoint if word == "CHECKPOINT" else word for word in words]
    assert loaded(["compare.py", *argv], FRAMEWORKS) == []


def test_the_catalogue_of_faults_needs_no_tensorflow():
    """Faults are put into modules of PyTorch's, so that their list needs that."""
    assert loaded(["compare.py", "self-check", "--list"], ("tensorflow", "cv2")) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--list",),
        ("tiny.pth",),
        ("tiny.pth", "--weights", "both"),
        ("tiny.safetensors",),
        ("tiny.pth", "--to", "effdet"),
        ("folder", "--to", "tf1"),
    ],
    ids=" ".join,
)
def test_conversions_need_no_framework(words, tiny_checkpoint, tmp_path):
    target, *options = words
    place = target if target.startswith("-") else tmp_path / target
    assert loaded(["convert.py", tiny_checkpoint, place, *options], FRAMEWORKS) == []
    assert place == target or place.exists()


def test_the_check_sees_what_is_imported():
    assert loaded(["compare.py", "models"], ("numpy", *FRAMEWORKS), "import numba\n") == [
        "numpy", "numba",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda item: item.name)
def test_every_command_is_where_it_is_said_to_be(command):
    assert command.name == command.settings.COMMAND
    module = __import__(command.module, fromlist=["run"])
    assert list(inspect.signature(module.run).parameters) == ["settings", "place"]
    for item in command.lists:
        assert command.listing(item)


def test_the_help_names_every_command(capsys):
    assert command_line.main(["--help"], "compare.py", COMPARISONS) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for command in COMPARISONS:
        assert f"{command.name} {' '.join(command.settings.HELP.split())}" in shown


def test_a_script_for_a_shell_knows_every_option(capsys):
    for shell in shtab.SUPPORTED_SHELLS[:2]:
        assert command_line.main(["--print-completion", shell]) == 0
        script = capsys.readouterr().out
        for command in COMMANDS:
            assert command.name in script
            for setting in settings_of(command.settings):
                assert setting.option.positional or setting.flag in script, setting.flag


def test_options_of_others_are_left_out_where_one_is_asked_for():
    parser = command_parser("x", "", COMMANDS, ["models"])
    assert "--strict" not in parser.format_help() and "--print-completion" not in (
        parser.format_help()
    )
