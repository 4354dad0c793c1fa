"""YAML files are read without trusting them, and else as the official code reads them."""

import time

import hparams_goldens
import pytest

from converter.hparams.plain_yaml import MAX_BYTES, parse_yaml, read_yaml, yaml_text
from efficientdet_spec import InputError

ROWS = [row for row in hparams_goldens.read("override.json")["rows"] if "yaml" in row]

STRICTER = {
    "num_classes: 20\nnum_classes: 30\n": "the key num_classes is there twice",
    "num_classes: !!python/name:os.getcwd\n": "python/name:os.getcwd",
    "num_classes: !!python/int 20\n": "python/int",
}
"""What the official code reads all the same, and why it is refused here."""


def refused(data):
    with pytest.raises(InputError) as caught:
        parse_yaml(data if isinstance(data, bytes) else data.encode(), "config.yaml")
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1000
    assert text.startswith("config.yaml is no YAML file of plain values")
    return text


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "parsed" in row], ids=lambda row: row["yaml"]
)
def test_what_the_official_code_reads(row):
    if row["yaml"] in STRICTER:
        assert STRICTER[row["yaml"]] in refused(row["yaml"])
    else:
        assert repr(parse_yaml(row["yaml"].encode(), "config.yaml")) == repr(row["parsed"])


@pytest.mark.parametrize("text", [row["yaml"] for row in ROWS if "parse_error" in row])
def test_what_it_refuses(text):
    refused(text)


def test_tuples_are_known_and_nothing_else_of_python():
    assert parse_yaml(b"a: !!python/tuple [1, !!python/tuple [2]]", "x") == {"a": (1, (2,))}
    for tag in (
        "object/apply:os.system",
        "object/new:os.system",
        "module:os",
        "name:os.system",
        "object:builtins.object",
        "list",
        "dict",
        "bytes",
    ):
        assert tag in refused(f"a: !!python/{tag} ['touch /tmp/x']")


def test_no_code_is_run(tmp_path):
    victim = tmp_path / "victim"
    path = f"!!python/object/apply:pathlib.Path ['{victim}']"
    refused(f"a: !!python/object/apply:pathlib.Path.touch [{path}]")
    assert not victim.exists()


def billion_laughs(levels=20):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        references = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{references}]")
    return "\n".join(lines)


def merged_laughs(levels=20):
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        references = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {{<<: [{references}]}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text, reason",
    [
        (billion_laughs(), "more than 50,000 values"),
        (merged_laughs(), "more than 50,000 values"),
        ("[" * 5000, "20 levels deep"),
        ("- " * 5000, "20 levels deep"),
        ("{a: " * 5000, "20 levels deep"),
        ("a: &a [*a]", "refers to itself"),
        ("a: &a {b: *a}", "refers to itself"),
        (f"[{'1,' * 120_000}]", "more than 50,000 values"),
        (f"a: 0x{'f' * 100_000}", "more than 19 digits"),
        (f"a: {'9' * 100_000}", "digits"),
        (f"a: {'1:' * 30_000}1", "more than 19 digits"),
        ("? [1]\n: 2", "unhashable"),
        ("1.5: 2", "not a text or whole number"),
        ("a: !!set {b}", "holds a set"),
        ("\x00", "special characters"),
        ("a: *b", "undefined alias"),
    ],
)
def test_what_grows_or_is_none_is_refused_at_once(text, reason):
    started = time.process_time()
    assert reason in refused(text)
    assert time.process_time() - started < 5


def test_bytes_that_are_no_text():
    refused(b"a: \xff\xfe\xff")


def test_dates_and_bytes_stay_texts():
    assert parse_yaml(b"a: 2020-03-01", "x") == {"a": "2020-03-01"}


def test_a_larger_file_is_not_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: " + "x" * MAX_BYTES)
    with pytest.raises(InputError, match="at most 262,144 are read"):
        read_yaml(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(InputError, match="named pipe"):
        read_yaml(tmp_path / "config.yaml")


def test_what_is_written_is_read():
    values = {"image_size": "160x96", "anchor_scale": (1, 2.5), "nms_configs": {"sigma": None}}
    assert parse_yaml(yaml_text(values).encode(), "x") == {**values, "anchor_scale": [1, 2.5]}
