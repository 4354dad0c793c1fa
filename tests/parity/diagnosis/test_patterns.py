"""Sentences on differences: each pattern is seen where it was made, and none where none was."""

import pytest
import torch

from parity.diagnosis.patterns import describe


@pytest.fixture
def truth():
    return torch.randn(2, 6, 12, 12, generator=torch.Generator().manual_seed(0)).double()


def first(truth, candidate):
    sentences = describe(truth, candidate.float())
    assert sentences and all(s[0].isupper() and s.endswith(".") for s in sentences)
    return sentences[0]


def without(truth, index, value=0.5):
    candidate = truth.clone()
    candidate[index] += value
    return candidate


ANY = slice(None)


def test_rounding_is_no_difference(truth):
    assert describe(truth, truth.float()) == []


def test_the_gauge_decides_what_is_rounding(truth):
    candidate = truth.float() + 1e-4
    assert describe(truth, candidate)
    assert describe(truth, candidate, torch.full_like(truth, 1e3)) == []


CASES = {
    "factor": (lambda t: 1.5 * t, "about the truth times 1.5,"),
    "sign": (lambda t: -t, "times -1, with the other sign"),
    "offset": (lambda t: t + 0.25, "about the truth plus 0.25,"),
    "channel factors": (
        lambda t: t * torch.linspace(-2, 2, 6).view(1, -1, 1, 1), "factor of its own, -2 to 2",
    ),
    "channel offsets": (
        lambda t: t + torch.linspace(-1, 1, 6).view(1, -1, 1, 1), "offset of its own, -1 to 1",
    ),
    "constant": (lambda t: torch.zeros_like(t), "Every value is 0."),
    "dead channels": (
        lambda t: t * (torch.arange(6) % 3 > 0).view(1, -1, 1, 1), "2 of 6 channels are constant",
    ),
    "relu": (lambda t: t.clamp(min=0), "truth is negative differ"),
    "clamp": (lambda t: t.clamp(max=1.5), "Only values whose truth is positive"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_pattern_of_values_is_seen(truth, name):
    change, text = CASES[name]
    assert text in " ".join(describe(truth, change(truth).float())[:3])


def test_clamping_names_its_limit(truth):
    sentences = describe(truth, truth.clamp(-2, 1.5).float())
    assert not any("Where the truth is" in s for s in sentences), "two limits are not one"
    sentences = describe(truth, truth.clamp(max=1.5).float())
    assert "Where the truth is above 1.5 the candidate is 1.5." in sentences


PLACES = {
    "one channel": ((ANY, 3), "Only 1 of 6 channels differ: 3."),
    "two channels": ((ANY, [1, 4]), "Only 2 of 6 channels differ: 1, 4."),
    "one image": ((1,), "Only 1 of 2 images differ: 1."),
    "last row": ((ANY, ANY, -1), "Only the border differs: last row; the interior is right."),
    "first column, two deep": (
        (ANY, ANY, ANY, slice(2)), "Only the border differs: first column (2 pixels deep)",
    ),
    "even rows": ((ANY, ANY, slice(0, None, 2)), "Only even rows differ."),
    "odd columns": ((ANY, ANY, ANY, slice(1, None, 2)), "Only odd columns differ."),
    "some rows": ((ANY, ANY, slice(4, 7)), "Only 3 of 12 rows differ: 4 to 6."),
    "corner": ((ANY, ANY, 0, 0), "Only the corners differ"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_the_place_of_a_difference_is_seen(truth, name):
    index, text = PLACES[name]
    assert any(text in s for s in describe(truth, without(truth, index).float()))


def test_last_row_and_column_are_both_named(truth):
    candidate = without(without(truth, (ANY, ANY, -1)), (ANY, ANY, ANY, -1))
    assert any("last row and last column" in s for s in describe(truth, candidate.float()))


def test_the_whole_border_is_named(truth):
    candidate = truth + 1
    candidate[:, :, 1:-1, 1:-1] = truth[:, :, 1:-1, 1:-1]
    assert any("the whole border" in s for s in describe(truth, candidate.float()))


@pytest.mark.parametrize("dtype, name", [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
def test_numbers_of_lower_precision_are_seen(truth, dtype, name):
    candidate = truth.to(dtype).float()
    sentences = describe(truth, candidate, truth.abs())
    assert f"Every value is a number of {name}." in sentences
    assert any("noise of relative size" in s for s in sentences)


@pytest.mark.parametrize("bits", [8, 9, 11, 12])
def test_noise_of_any_size_is_no_evidence_of_a_type(truth, bits):
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    told = " ".join(
        describe(truth, (truth + noise * truth.abs() * 2.0**-bits).float(), truth.abs())
    )
    assert "noise of relative size" in told
    assert not any(name in told for name in ("float16", "TF32", "precision"))


def test_a_difference_that_goes_with_the_truth_is_no_noise(truth):
    assert not any("noise" in s for s in describe(truth, (1.0005 * truth).float()))


def test_unlike_values_are_said_to_be_unlike(truth):
    sentences = describe(truth, torch.randn(truth.shape))
    assert any("correlation with the truth is" in s for s in sentences)
    assert "All" in sentences[-1] or "of 1728 values" in sentences[-1]


def test_values_that_are_not_finite_are_counted(truth):
    candidate = truth.float()
    candidate[1, 2, 3, 4] = float("nan")
    candidate[1, 2, 3, 5] = float("inf")
    sentences = describe(truth, candidate)
    assert sentences[0].startswith("2 of 1728 values (0.12%) are not finite (1 NaN)")
    assert "[1, 2, 3, 4]" in sentences[0]
    assert "Only 1 of 6 channels differ: 2." in sentences


def test_another_shape_is_described(truth):
    assert first(truth, truth[:, :, ::2, ::2]).endswith(": 0.5 times as high and wide.")
    assert "another order" in first(truth, truth.transpose(0, 1))
    assert first(truth, truth[:, :5]).endswith("instead of [2, 6, 12, 12].")
    assert first(truth, truth[0]).endswith("instead of [2, 6, 12, 12].")
