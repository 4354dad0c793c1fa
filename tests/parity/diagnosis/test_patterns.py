"""Sentences on differences: each pattern is seen where it was made, and none where none was."""

import pytest
import torch

from parity.diagnosis.patterns import describe


@pytest.fixture
def truth():
    return torch.randn(2, 6, 12, 12, generator=torch.Generator().manual_seed(0)).double()


def first(truth, candidate):
    sentences = describe(truth, candidate.float())
    begins = (s[0].isupper() or s[0].isdigit() for s in sentences)
    assert sentences and all(begins) and all(s.endswith(".") for s in sentences)
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
    "clamp": (lambda t: t.clamp(max=1.5), "Where the truth is above 1.5 the candidate is 1.5."),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_pattern_of_values_is_seen(truth, name):
    change, text = CASES[name]
    assert text in " ".join(describe(truth, change(truth).float())[:3])


def test_clamping_names_its_limit(truth):
    sentences = describe(truth, truth.clamp(-2, 1.5).float())
    assert sentences[0] == "It is held between -2 and 1.5, and is right within these limits."
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
    unlike = torch.randn(truth.shape, generator=torch.Generator().manual_seed(5))
    sentences = describe(truth, unlike)
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


def spread(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)).double()


def uniform(truth):
    return torch.rand(truth.shape, generator=torch.Generator().manual_seed(4))


ODD = {
    "one image scaled": (
        lambda t: t * torch.tensor([1.0, 1.5]).view(-1, 1, 1, 1),
        "Where it differs, it is about the truth times 1.5",
    ),
    "every other channel negated": (
        lambda t: torch.where((torch.arange(6) % 2 == 1).view(1, -1, 1, 1), -t, t),
        "Where it differs, it is about the truth times -1, with the other sign",
    ),
    "a factor for each image": (
        lambda t: t * torch.tensor([1.1, 0.8]).view(-1, 1, 1, 1),
        "It is at each image about the truth times a factor of its own, 0.8 to 1.1",
    ),
    "an offset for each image": (
        lambda t: t + torch.tensor([0.1, -0.2]).view(-1, 1, 1, 1),
        "It is at each image about the truth plus an offset of its own, -0.2 to 0.1",
    ),
    "a factor and an offset": (
        lambda t: 1.3 * t + 0.2, "It is about the truth times 1.3 plus 0.2",
    ),
    "a factor and an offset for each channel": (
        lambda t: t * (2 + spread(1, 6, 1, 1)) + spread(1, 6, 1, 1),
        "It is at each channel about the truth times a factor of its own",
    ),
    "a factor for each column": (
        lambda t: t * torch.linspace(0.5, 1.5, 12),
        "It is at each column about the truth times a factor of its own, 0.5 to 1.5",
    ),
    "images exchanged": (lambda t: t.flip(0), "It is at each image about that of the other image"),
    "images mixed": (
        lambda t: 0.7 * t + 0.3 * t.flip(0),
        "at each image about 0.7 times the truth plus 0.3 times that of the other image",
    ),
    "channels mixed": (
        lambda t: t + 0.2 * t.roll(1, 1),
        "at each channel about 1 times the truth plus 0.2 times that of the channel before it",
    ),
    "the sign alone": (lambda t: 0.8 * t.sign(), "It is about 0.8 times the truth's sign"),
    "a bend at zero": (
        lambda t: torch.where(t > 0, t * 1.3, t * 0.7),
        "times 1.3 where that is positive, and times 0.7 where it is negative",
    ),
    "some zeros": (
        lambda t: t * (uniform(t) > 0.3), "Where it differs the candidate is zero, 2",
    ),
    "drop-out": (
        lambda t: t * (uniform(t) > 0.3) / 0.7,
        "values are zero, at no places in particular. The rest is about the truth times 1.42",
    ),
    "one value": (
        lambda t: t + 9 * (torch.arange(t.numel()).view(t.shape) == 77),
        "Only 1 value differs, at [0, 0, 6, 5] [n, c, y, x]",
    ),
    "limits": (lambda t: t.clamp(-1, 1.5), "It is held between -1 and 1.5"),
    "places": (
        lambda t: t.flatten(2).flip(2).view_as(t),
        "Each plane has the true values, in other places.",
    ),
    "nothing in common": (lambda t: spread(*t.shape), "Its correlation with the truth is"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_the_most_telling_comes_first(truth, name):
    change, text = ODD[name]
    assert text in first(truth, change(truth))


FURTHER = {
    "the first channels": ((ANY, slice(2)), "Only 2 of 6 channels differ: 0 to 1, the first ones."),
    "every third channel": (
        (ANY, slice(1, None, 2)), "Only every second channel differs, the first of them 1: 3 of 6.",
    ),
    "every fourth column": (
        (ANY, ANY, ANY, slice(3, None, 4)),
        "Only every 4th column differs, the first of them 3: 3 of 12.",
    ),
    "from a column on": (
        (ANY, ANY, ANY, slice(8, None)), "Only 4 of 12 columns differ: 8 to 11, all from 8 on.",
    ),
    "a seam": ((ANY, ANY, ANY, 6), "Only 1 of 12 columns differ: 6, as at a seam."),
}  # fmt: skip


@pytest.mark.parametrize("name", FURTHER)
def test_rules_of_places_are_seen(truth, name):
    index, text = FURTHER[name]
    candidate = truth.clone()
    candidate[index] = spread(*candidate[index].shape)
    assert text in describe(truth, candidate.float())


def test_a_chessboard_and_tiles_are_seen(truth):
    rows, columns = torch.arange(12).view(-1, 1), torch.arange(12)
    noise = spread(*truth.shape)
    board = describe(truth, torch.where((rows + columns) % 2 == 1, noise, truth).float())
    assert "Only every second position differs, as on a chessboard." in board
    tiles = describe(truth, torch.where((rows % 4 == 0) | (columns % 4 == 0), noise, truth).float())
    assert "Only every 4th row and column differs, as at the edges of tiles." in tiles


def test_places_that_follow_no_rule_are_not_listed():
    truth = spread(1, 4, 64, 64)
    candidate = torch.where(uniform(truth) > 0.995, truth + spread(*truth.shape), truth)
    told = describe(truth, candidate.float())
    assert not any("rows" in s or "columns" in s for s in told)


def test_a_quantised_tensor_is_told_with_its_step():
    truth = spread(1, 8, 64, 64)
    told = describe(truth, (torch.round(truth / 0.1) * 0.1).float())
    assert any("numbers 0.1 apart, as of a quantised tensor." in s for s in told)
    # Signs are no numbers of lower precision.
    assert not any("bfloat16" in s for s in describe(truth, truth.sign().float()))


def test_another_function_of_each_value_is_told():
    truth = spread(1, 8, 64, 64)
    told = describe(truth, torch.sin(2 * truth).float())
    assert told[0] == "Each value follows from the true one alone, by one function that is another."
    mixed = torch.einsum("nchw,dc->ndhw", truth, spread(8, 8))
    assert "function" not in " ".join(describe(truth, mixed.float()))


@pytest.mark.parametrize("relative", [True, False])
def test_noise_is_told_by_how_it_grows(relative):
    truth = spread(1, 8, 64, 64)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(9)) * 1e-3
    told = " ".join(describe(truth, (truth + noise * (truth if relative else 1)).float()))
    assert ("in proportion to the values" in told) == relative
    assert ("as large for small values as for large ones" in told) != relative
