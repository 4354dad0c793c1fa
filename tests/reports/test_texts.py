"""Figures as texts: few digits, and none that says more or less than there is."""

import math

import pytest

from reports.words import texts
from reports.words.faults import About, about_finding, is_about_values


@pytest.mark.parametrize(
    "slug, about",
    [
        ("parameter-different", About.VALUE),
        ("parameter-zeros", About.VALUE),
        ("parameter-missing", About.STRUCTURE),
        ("parameter-shape", About.STRUCTURE),
        ("momentum", About.SETTING),
        ("eps", About.SETTING),
        ("training", About.MODE),
        ("not-repeatable", About.REPEATABILITY),
    ],
)
def test_what_a_finding_is_about(slug, about):
    assert about_finding(slug) is about


def test_a_suspect_of_other_values():
    assert is_about_values("parameters-different") and is_about_values("parameters-raw")
    for slug in (None, "parameters-shape", "epsilon", "kernel-values"):
        assert not is_about_values(slug)


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda: texts.scientific(2.84e-4), "2.8e-04"),
        (lambda: texts.scientific(0.0), "0"),
        (lambda: texts.scientific(None), "–"),
        (lambda: texts.scientific(math.nan), "NaN"),
        (lambda: texts.scientific(-math.inf), "−∞"),
        (lambda: texts.short(10.34), "10.3"),
        (lambda: texts.short(12345), "1.2e+04"),
        (lambda: texts.short(0), "0"),
        (lambda: texts.short(math.inf), "∞"),
        (lambda: texts.metric(0.3882637), "0.388264"),
        (lambda: texts.metric(-1e-9, signed=True), "0.000000"),
        (lambda: texts.metric(0.01, signed=True), "+0.010000"),
        (lambda: texts.metric(-0.01), "−0.010000"),
        (lambda: texts.metric(None), "–"),
        (lambda: texts.seconds(13.94), "13.9 s"),
        (lambda: texts.seconds(491), "8 min 11 s"),
        (lambda: texts.memory(1_433_120_768), "1.43 GB"),
        (lambda: texts.count(3927203), "3,927,203"),
        (lambda: texts.plural(1, "node"), "1 node"),
        (lambda: texts.plural(1568, "node"), "1,568 nodes"),
        (lambda: texts.shape([1, 64, 64, 810]), "1×64×64×810"),
        (lambda: texts.shape(None), "–"),
    ],
)
def test_text(call, expected):
    assert call() == expected
