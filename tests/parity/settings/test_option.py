"""Settings: checked wherever they come from, and written as the command line that gives them."""

from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from efficientdet_parity.command_line import COMMANDS, main
from efficientdet_spec import Cause, InputError
from parity.commands.asking.command_line import command_parser, parse
from parity.settings.coco import CocoSettings
from parity.settings.convert import ConvertSettings
from parity.settings.nodes import NodesSettings
from parity.settings.option import HEADINGS, settings_of, words
from parity.settings.programs import program_words
from parity.settings.record import RecordSettings
from parity.settings.report import ReportSettings
from parity.settings.self_check import SelfCheckSettings

KINDS = [command.settings for command in COMMANDS]


def typed(*line):
    """The settings that a command line gives."""
    return parse(command_parser("x", "", COMMANDS), COMMANDS, list(line)).settings()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.COMMAND)
def test_every_field_is_an_option_with_a_heading_and_a_meaning(kind):
    found = settings_of(kind)
    assert {item.name for item in fields(kind)} == {setting.field for setting in found}
    for setting in found:
        assert setting.option.group in HEADINGS and setting.option.help[0] != " "
    if kind.RESULT:
        assert kind.RESULT in {setting.field for setting in found}


def filled(kind, folder):
    """Settings of a kind with every value other than its default."""
    values = {}
    for setting in settings_of(kind):
        known = setting.option
        if setting.kind is bool:
            value = True
        elif known.choices:
            value = next(item for item in known.choices if item != setting.default)
        elif setting.field == "size":
            value = (96, 128)
        elif setting.field == "sha256":
            value = "ab" * 32
        elif setting.field == "image_ids":
            value = (139, 285)
        elif setting.kind is int:
            value = 7
        elif setting.kind is float:
            value = 0.7
        elif (
            setting.field in ("names", "image", "annotations", "reference")
            and kind is ReportSettings
        ):
            value = folder / "file"
        elif setting.field in ("images",) and kind is ReportSettings:
            value = folder
        elif setting.kind is Path:
            value = Path("-odd name")
        else:
            value = "-odd name"
        values[setting.field] = (value,) if setting.multiple else value
    # Each is refused with others of these.
    for name in ("from_", "backward", "scheduler", "to", "no_ema", "framework", "stage_swap",
                 "tls_ca", "tls_cert", "tls_key", "insecure", "backbone", "form"):  # fmt: skip
        values.pop(name, None)
    if kind is ReportSettings:
        # Seeded weights are from no archive.
        values.pop("sha256")
    if "detections" in values:
        # It is a whole program, in place of a candidate's network.
        values.pop("candidate")
        values.pop("names")
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.COMMAND)
def test_the_written_command_line_gives_the_same_settings(kind, tmp_path):
    (tmp_path / "file").touch()
    settings = filled(kind, tmp_path)
    assert typed(*words(settings)) == settings
    bare = {
        item.field: getattr(settings, item.field) for item in settings_of(kind) if item.required
    }
    if kind is not ReportSettings:
        least = kind(**bare)
        assert typed(*words(least)) == least
        assert len(words(least)) < len(words(settings))


@pytest.mark.parametrize("name", ["any", "efficientnet-b0"])
def test_a_backbone_is_written(name):
    settings = ConvertSettings(checkpoint="a", target="b.pth", backbone=name)
    assert typed(*words(settings)) == settings


def test_what_is_as_by_default_is_not_written():
    settings = NodesSettings(checkpoint="d0", image=["a.png", "b.png"], size="96x128")
    assert words(settings) == [
        "nodes", "d0", "--size", "96x128", "--image", "a.png", "--image", "b.png",
    ]  # fmt: skip
    assert program_words(settings)[:2] == ("compare.py", "nodes")
    # Its default is no native size: None must not come to mean 256x256.
    assert words(SelfCheckSettings(checkpoint="d0")) == ["self-check", "d0"]
    converted = ConvertSettings(checkpoint="d0", target="-x.pth")
    assert program_words(converted) == ("convert.py", "--", "d0", "-x.pth")


def test_values_are_what_is_declared_whoever_gives_them(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    settings = NodesSettings(
        checkpoint=Path("~/d0"), image="~/a.png", size=(96, 128), candidate="~/port.py:build"
    )
    assert settings.checkpoint == "/home/someone/d0"
    assert settings.image == (Path("/home/someone/a.png"),)
    assert settings.candidate == "/home/someone/port.py:build"
    assert settings.size == (96, 128) == NodesSettings(checkpoint="x", size="96x128").size
    assert typed("nodes", "d0", "--json=~/r.json").json == Path("/home/someone/r.json")
    # An address is no path.
    assert NodesSettings(checkpoint="https://a/~b").checkpoint == "https://a/~b"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": 0}, "--threads is 0; give a number from 1 to 1024"),
        ({"threads": "two"}, "--threads is 'two'; give a whole number"),
        ({"threads": True}, "--threads is True; give a whole number"),
        ({"threads": [1]}, r"--threads is \[1\]; give a whole number"),
        ({"weights": "emma"}, r"--weights is 'emma'; give one of ema, raw \(did you mean ema\?\)"),
        ({"size": "512"}, "'512' is no image size; give HEIGHTxWIDTH"),
        ({"size": 512}, "--size is 512"),
        ({"size": (512,)}, "--size is"),
        ({"size": (0, 512)}, "'0x512' is no image size"),
        ({"sha256": "0" * 63}, "--sha256 is '0.*'; give the 64 hexadecimal digits"),
        ({"sha256": "0" * 64 + "\n"}, "--sha256 is '0.*; give the 64"),
        ({"sha256": "g" * 64}, "--sha256 is 'g"),
        ({"sha256": "sha256:" + "0" * 57}, "--sha256 is 'sha256:"),
        ({"sha256": ""}, "--sha256 is ''"),
        ({"sha256": 64}, "--sha256 is '64'"),
        ({"json": ""}, "--json is ''; give a path"),
        ({"json": "a\0b"}, r"--json is 'a\\x00b'; give a path"),
        ({"candidate": ""}, "--candidate is ''; give a path"),
        ({"candidate": "~nobody-here/x.py:f"}, "--candidate is '~nobody-here.*; give a path"),
        ({"model": "\udcff"}, "--model is .*; give a text"),
        ({"candidate": 3.5j}, "--candidate is 3.5j; give a path"),
        ({"backward": True, "reference": "a.h5"}, "--backward differentiates the reference, which"),
        ({"wieghts": "raw"}, r"no setting 'wieghts' \(did you mean weights\?\); it has"),
    ],
)
def test_values_that_no_setting_can_have(values, message):
    with pytest.raises(InputError, match=message) as raised:
        NodesSettings.of(checkpoint="d0", **values)
    assert raised.value.cause is Cause.OPTION


def test_a_digest_is_read_in_either_case():
    assert NodesSettings(checkpoint="d0", sha256="AB" * 32).sha256 == "ab" * 32


def test_every_command_with_a_checkpoint_says_what_may_be_downloaded():
    for kind in KINDS:
        names = {setting.field for setting in settings_of(kind)}
        if {"checkpoint", "sources"} & names:
            assert {"cache", "sha256", "offline"} <= names, kind.COMMAND


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="coco is not given CHECKPOINT and --images and --out"):
        CocoSettings.of(annotations="a.json")


def test_settings_cannot_be_changed_unchecked():
    settings = RecordSettings(checkpoint="d0", trace="t.h5")
    with pytest.raises(InputError, match="--threads is -1"):
        replace(settings, threads=-1)
    assert all(item.default is MISSING for item in settings_of(RecordSettings) if item.required)


def test_a_cluster_is_trusted_by_certificates_or_by_word():
    given = {"checkpoint": "d0", "images": "i", "annotations": "a", "out": "o", "scheduler": "x"}
    files = {"tls_ca": "a.pem", "tls_cert": "b.pem", "tls_key": "b.key"}
    for trust in (files, {"insecure": True}):
        settings = CocoSettings(**given, **trust)
        assert typed(*words(settings)) == settings and "cluster" in settings.needs()
    with pytest.raises(InputError, match="without --tls-ca and --tls-cert and --tls-key, and Dask"):
        CocoSettings(**given)


def test_a_cluster_is_one_of_two():
    with pytest.raises(InputError, match="--workers and --scheduler are both given"):
        CocoSettings(
            checkpoint="d0", images="i", annotations="a", out="o", workers=2, scheduler="tcp://x"
        )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["nodez", "d0"], r"no command 'nodez' \(did you mean nodes\?\)"),
        ([], "No command is given"),
        (["--size", "8x8"], "--size stands where a command should"),
        (["nodes", "d0", "--treads=2"], r"no option --treads \(did you mean --threads\?\)"),
        (["seed", "a", "b", "c"], "'c' is one argument too many for seed"),
        (["coco", "d0"], "are required: .*--images"),
    ],
)
def test_lines_that_no_command_understands(line, message):
    with pytest.raises(InputError, match=message):
        typed(*line)


@pytest.mark.parametrize("line", [["--debug", "seed"], ["seed", "--debug"]])
def test_tracebacks_are_asked_for_before_and_behind_a_command(line, capsys):
    assert main([*line, "no-model", "folder"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["seed", "no-model", "folder"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_completion_is_a_script_that_knows_choices(capsys):
    assert main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "--num-classes" in script and "float64" in script and "self-check" in script


def test_help_names_defaults_headings_and_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["nodes", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: efficientdet-parity nodes CHECKPOINT [options]\n")
    assert "(default: 30)" in text and "\nwhat is compared:\n" in text
    assert "  # check a port of your own\n  efficientdet-parity nodes" in text
    assert max(map(len, text.splitlines())) <= 80
    assert main(["--version"]) == 0 and "efficientdet-parity " in capsys.readouterr().out
