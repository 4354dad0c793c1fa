"""Long lists of what is wrong become a sentence."""

import pytest

from efficientdet_spec import Finding, listed, summary
from efficientdet_spec.findings import ROOM


def missing(*names):
    return [Finding(name, "missing", f"{name} is missing") for name in names]


def test_one_finding_is_told_by_its_sentence():
    assert summary(missing("a/b")) == "a/b is missing"


def test_the_same_finding_is_counted_under_its_common_scope():
    names = [f"class_net/class-{i}/bias" for i in range(352)]
    assert summary(missing(*names)) == (
        "352 missing, all under class_net/: class_net/class-0/bias, class_net/class-1/bias, "
        "class_net/class-2/bias, ..."
    )


def test_several_scopes_and_kinds_come_apart_the_most_frequent_first():
    found = [Finding("x.y", "unknown", "x.y is unknown", "[3]")]
    found += missing(*(f"box_net/{i}" for i in range(9)), *(f"class_net/{i}" for i in range(20)))
    assert summary(found) == (
        "29 missing, 20 under class_net/, 9 under box_net/: box_net/0, box_net/1, box_net/2, ...; "
        "1 unknown: x.y [3]"
    )


@pytest.mark.parametrize("letter", ["n", "é", "語", "\x1b", "\n"])
@pytest.mark.parametrize("kinds", [1, 3, 50])
def test_it_has_room_whatever_the_names_are(letter, kinds):
    found = [
        Finding(f"{letter * 900}/{i}", f"of kind {i % kinds}", "s" * 5000, letter * 400)
        for i in range(500)
    ]
    text = summary(found)
    assert len(text.encode()) <= ROOM and text.isprintable()
    if kinds == 1:
        assert text.startswith("500 ")


def test_names_in_a_sentence():
    assert listed(["a", "b"]) == "a, b"
    assert listed(range(20), 3) == "0, 1, 2 and 17 more"
    assert listed(["x" * 100 + "end"], letters=20) == "xxxxxxxxxxx...xxxend"
    assert listed([]) == ""
