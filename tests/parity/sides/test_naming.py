"""Which submodule makes which node: the faithful model's own paths, and files of names."""

import json
import os
from pathlib import Path

import pytest

from efficientdet_spec import InputError
from parity.sides import naming
from parity.sides.naming import (
    CandidateName,
    base,
    check_paths,
    own_paths,
    read_names,
    split_candidate,
)

NODES = ["stem", "head.conv@P3", "head.bns.P3", "head.conv@P4", "head.bns.P4"]


@pytest.fixture
def names(tmp_path):
    """Reads a file of names with a content, text or plain values."""

    def read(content):
        path = tmp_path / "names.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(json.dumps(content))
        return read_names(path, NODES)

    return read


@pytest.fixture
def refused(names):
    def read(content):
        with pytest.raises(InputError) as raised:
            names(content)
        text = str(raised.value)
        assert "names.json" in text and "\n" not in text and text.endswith(".")
        return text

    return read


def test_own_paths_take_the_levels_in_order():
    found = own_paths(iter(NODES))
    assert found.calls == {
        "stem": ("stem",),
        "head.conv": ("head.conv@P3", "head.conv@P4"),
        "head.bns.P3": ("head.bns.P3",),
        "head.bns.P4": ("head.bns.P4",),
    }
    assert found.nodes == tuple(NODES)
    assert found.strict
    assert found.path_of()["head.conv@P4"] == "head.conv"
    assert found.path_of().keys() == set(NODES)
    assert base("head.conv@P4") == "head.conv" and base("stem") == "stem"


def test_names_of_single_nodes_and_of_all_levels(names):
    found = names({"stem": "net.0", "head.conv": "net.head", "head.bns.P4": "net.norm"})
    assert found.calls == {
        "net.0": ("stem",),
        "net.head": ("head.conv@P3", "head.conv@P4"),
        "net.norm": ("head.bns.P4",),
    }
    assert found.nodes == tuple(NODES)
    assert not found.strict
    assert "head.bns.P3" not in found.path_of()


def test_each_level_may_have_a_module_of_its_own(names):
    found = names({"head.conv": ["a", "b"]})
    assert found.calls == {"a": ("head.conv@P3",), "b": ("head.conv@P4",)}
    assert names({"head.conv@P4": "a"}).calls == {"a": ("head.conv@P4",)}
    assert names({"head.conv@P4": ["a"]}).calls == {"a": ("head.conv@P4",)}


def test_calls_of_one_module_are_in_the_order_of_computation(names):
    expected = {"all": ("stem", "head.conv@P3", "head.conv@P4")}
    assert names({"head.conv": "all", "stem": "all"}).calls == expected
    assert names({"head.conv@P4": "all", "stem": "all", "head.conv@P3": "all"}).calls == expected


def test_a_node_named_twice_must_be_named_alike(names, refused):
    assert names({"head.conv": "a", "head.conv@P3": "a"}).calls == {
        "a": ("head.conv@P3", "head.conv@P4")
    }
    message = refused({"head.conv": "a", "head.conv@P3": "b"})
    assert "two submodules for the node 'head.conv@P3', 'a' and 'b'" in message


def test_nodes_that_the_model_does_not_have(refused):
    assert "names the node 'head.conv@P9', which the model does not have" in refused(
        {"head.conv@P9": "a"}
    )
    assert "such as 'stem'" in refused({"": "a"})


@pytest.mark.parametrize(
    "value", [3, None, True, "", [], ["a"], ["a", "b", "c"], ["a", 3], ["", "b"]]
)
def test_values_that_are_no_paths(value, refused):
    message = refused({"head.conv": value})
    assert f"gives {json.dumps(value)} for the node 'head.conv'" in message
    assert "a list of 2 paths, one for each level" in message
    assert "list" not in refused({"stem": []})


def test_what_was_written_is_read_by_its_paths(names, refused):
    written = {
        "schema": "efficientdet-parity/names",
        "version": 1,
        "model": "any",
        "nodes": {
            "stem": {"path": "net.0", "found": "values"},
            "head.conv@P3": {"path": "net.head", "operations": ["convolution"]},
            "head.bns.P3": {"path": None, "reason": "not found"},
            "head.conv@P4": {"path": "net.head"},
            "head.bns.P4": {},
        },
    }
    found = names(written)
    assert found.calls == {"net.0": ("stem",), "net.head": ("head.conv@P3", "head.conv@P4")}
    assert found.nodes == tuple(NODES)
    # All may be left to what is found.
    assert names({**written, "nodes": {"stem": {"path": None}}}).calls == {}
    assert "gives 3 for the node 'stem'" in refused({**written, "nodes": {"stem": {"path": 3}}})
    assert "give an object with a path" in refused({**written, "nodes": {"stem": "net.0"}})
    assert "'net.x', which the model does not have" in refused(
        {**written, "nodes": {"net.x": {"path": "a"}}}
    )
    for other, found in (
        ({"version": 2}, 'is "efficientdet-parity/names" in version 2'),
        ({"schema": "efficientdet-parity/nodes"}, 'is "efficientdet-parity/nodes" in version 1'),
        ({"nodes": []}, "has no object under the key 'nodes'"),
    ):
        message = refused({**written, **other})
        assert f"{found}; give what --write-names of this version has written" in message


def test_names_of_another_model_are_refused(tmp_path):
    path = tmp_path / "names.json"
    written = {"schema": "efficientdet-parity/names", "version": 1, "model": "d1", "nodes": {}}
    path.write_text(json.dumps(written))
    assert read_names(path, NODES, "d1").calls == {}
    with pytest.raises(InputError, match="was written for d1, and this is d0"):
        read_names(path, NODES, "d0")


@pytest.mark.parametrize(
    "content",
    [b'{"stem": "a", "head.conv": "b", "stem": "c"}', b'{"nodes": {"stem": 1, "stem": 2}}'],
)
def test_a_key_that_is_given_twice(content, refused):
    assert "gives the key 'stem' twice; leave one of them out" in refused(content)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"stem": NaN', b"[" * 100_000])
def test_files_that_are_no_json(content, refused):
    assert "cannot be read as JSON" in refused(content)


@pytest.mark.parametrize(
    "content, what", [([], "nothing"), ({}, "nothing"), (["stem"], "list"), ("stem", "str")]
)
def test_json_that_is_no_object(content, what, refused):
    assert f"holds {what}; give one JSON object" in refused(content)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_names(path, NODES)


def test_huge_files_are_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "huge.json"
    path.touch()
    os.truncate(path, (16 << 20) + 1)
    monkeypatch.setattr(naming.json, "loads", None)
    with pytest.raises(InputError, match="16777217 bytes, more than any list of names"):
        read_names(path, NODES)


def test_paths_that_the_candidate_does_not_have():
    found = own_paths(NODES)
    check_paths(found, ["", "head", "stem", "head.conv", "head.bns.P3", "head.bns.P4"], "names")
    with pytest.raises(InputError) as raised:
        check_paths(found, ["", "stem", "net.conv", "conv", "conv2", "head.bns.P3"], "f.json")
    assert str(raised.value) == (
        "f.json names the submodule 'head.conv', which the candidate does not have, which has for "
        "example conv, net.conv; correct the path."
    )
    with pytest.raises(InputError, match="'stem', which the candidate does not have; correct"):
        check_paths(found, ["", "other"], "f.json")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("model.py:build", CandidateName(file=Path("model.py"), maker="build")),
        ("a:b/model.py:build", CandidateName(file=Path("a:b/model.py"), maker="build")),
        ("model.py:", CandidateName(file=Path("model.py"), maker="")),
        ("model.pth", CandidateName(file=Path("model.pth"))),
        ("model.py", CandidateName(file=Path("model.py"))),
        ("C:model.pth", CandidateName(file=Path("C:model.pth"))),
        ("a:b/model", CandidateName(file=Path("a:b/model"))),
        ("effdet", CandidateName(file=Path("effdet"))),
        ("effdet:tf_efficientdet_d0", CandidateName(package="effdet", maker="tf_efficientdet_d0")),
        ("effdet:", CandidateName(file=Path("effdet:"))),
    ],
)
def test_candidates_are_files_or_what_makes_them(text, expected):
    named = split_candidate(text)
    assert named == expected and named.runs_code == (expected.maker is not None)
