"""Class logits and box codes out of whatever a candidate returns, on images not seen before."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from efficientdet_spec import InputError
from parity.sides.naming import own_paths
from parity.sides.pytorch import TorchCandidate
from parity.sides.pytorch.observation.reading import read_outputs
from parity.sides.side import CandidateError
from torch_model.checkpoint import from_arrays

IMAGES = np.random.default_rng(5).standard_normal((2, 128, 128, 3)).astype(np.float32)
OTHERS = np.random.default_rng(6).standard_normal((2, 128, 128, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def config(tiny_conversion):
    return tiny_conversion.config


@pytest.fixture
def faithful(tiny_conversion):
    return from_arrays(tiny_conversion.config, tiny_conversion.arrays, source="tiny").eval()


def joined(levels, values):
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, values) for x in levels], 1)


def channels_last(levels):
    return [level.permute(0, 2, 3, 1) for level in levels]


class Returns(nn.Module):
    """The model, whose class and box outputs go through a function."""

    def __init__(self, inner, function):
        super().__init__()
        self.held = inner
        self.function = function

    def forward(self, images):
        return self.function(images, *self.held(images))


FORMS = {
    "as they are": lambda x, c, b: (c, b),
    "flat": lambda x, c, b: [*c, *b],
    "named, boxes first": lambda x, c, b: {"boxes": b, "classes": c},
    "coarsest first": lambda x, c, b: (c[::-1], b[::-1]),
    "channels last": lambda x, c, b: (channels_last(c), channels_last(b)),
    "joined, with others beside": lambda x, c, b: (x, joined(b, 4), x[:, :1], joined(c, 7)),
    "behind a sigmoid": lambda x, c, b: ([level.sigmoid() for level in c], b),
    "joined behind a sigmoid": lambda x, c, b: (joined(b, 4), joined(c, 7).sigmoid()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(faithful, config, form):
    port = Returns(faithful, FORMS[form])
    reading = read_outputs(port, faithful, config, IMAGES)
    assert reading.batch == 2
    classes, boxes = reading.run(TorchCandidate(port, own_paths([])), OTHERS)
    with torch.no_grad():
        due = faithful(torch.from_numpy(OTHERS).permute(0, 3, 1, 2))
    for found, expected in zip((classes, boxes), due, strict=True):
        for one, other in zip(found, expected, strict=True):
            # A sigmoid leaves a rounding of the score, which is more of the logit.
            torch.testing.assert_close(one, other, rtol=0, atol=5e-5 if "sigmoid" in form else 0)
    assert any("undone by logit" in note for note in reading.notes) is ("sigmoid" in form)


def test_what_is_done_behind_the_last_layers_is_not_guessed(faithful, config):
    for function, said in (
        (lambda x, c, b: (c, [level.exp() for level in b]), "something to its box outputs"),
        (lambda x, c, b: ([level.softmax(1) for level in c], b), "something to its class outputs"),
        (lambda x, c, b: (joined(c[::-1], 7), joined(b[::-1], 4)), "could not be determined"),
        (lambda x, c, b: joined(b, 4), "could not be determined"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_outputs(Returns(faithful, function), faithful, config, IMAGES[:1])
        assert len(str(caught.value)) < 1000


def test_the_candidates_network_is_what_is_read(faithful, config, tiny_conversion):
    other = from_arrays(tiny_conversion.config, tiny_conversion.arrays, source="tiny").eval()
    other.backbone.stem_bn.eps = 0.1
    reading = read_outputs(Returns(other, FORMS["flat"]), faithful, config, IMAGES[:1])
    classes, _ = reading.run(TorchCandidate(other, own_paths([])), OTHERS[:1])
    with torch.no_grad():
        images = torch.from_numpy(OTHERS[:1]).permute(0, 3, 1, 2)
        assert torch.equal(classes[0], other(images)[0][0])
        assert not torch.allclose(classes[0], faithful(images)[0][0], atol=1e-3)


class Batch(Returns):
    """Takes so many images together and no others."""

    def __init__(self, inner, count):
        super().__init__(inner, FORMS["flat"])
        self.count = count

    def forward(self, images):
        assert len(images) == self.count, f"made for {self.count}"
        return super().forward(images)


class InTurn(Returns):
    """Takes the images of a batch one after another."""

    def forward(self, images):
        made = [super(InTurn, self).forward(image[None]) for image in images]
        return [torch.cat(parts) for parts in zip(*made, strict=True)]


def test_batches(faithful, config):
    assert read_outputs(Batch(faithful, 2), faithful, config, IMAGES).batch == 2
    single = read_outputs(Batch(faithful, 1), faithful, config, IMAGES)
    assert single.batch == 1 and "was given single images" in single.notes[0]
    in_turn = InTurn(faithful, FORMS["flat"])
    turns = read_outputs(in_turn, faithful, config, IMAGES)
    assert turns.batch == 1 and "one after another" in turns.notes[0]
    with pytest.raises(CandidateError, match="made for 2"):
        read_outputs(Batch(faithful, 2), faithful, config, IMAGES[:1])


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_scripts(faithful, config):
    images = torch.from_numpy(IMAGES[:1]).permute(0, 3, 1, 2)
    script = torch.jit.trace(Returns(faithful, FORMS["flat"]), images, check_trace=False)
    reading = read_outputs(script, faithful, config, IMAGES[:1])
    classes, _ = reading.run(TorchCandidate(script, own_paths([])), OTHERS[:1])
    with torch.no_grad():
        due = faithful(torch.from_numpy(OTHERS[:1]).permute(0, 3, 1, 2))
    torch.testing.assert_close(classes[2], due[0][2], rtol=0, atol=1e-5)


class InThread(Returns):
    """Its layers run where no operation is seen."""

    def forward(self, images):
        found = []

        def work():
            with torch.no_grad():
                found.append(super(InThread, self).forward(images))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found[0]


def test_layers_that_are_not_seen(faithful, config):
    usual = read_outputs(InThread(faithful, FORMS["flat"]), faithful, config, IMAGES[:1])
    assert "were not found" in usual.notes[0] and len(usual.places) == 10
    with pytest.raises(InputError, match="between 0 and 1, as behind a sigmoid"):
        read_outputs(InThread(faithful, FORMS["behind a sigmoid"]), faithful, config, IMAGES[:1])
    with pytest.raises(InputError, match="could not be determined"):
        read_outputs(InThread(faithful, FORMS["coarsest first"]), faithful, config, IMAGES[:1])


def test_other_tensors_than_before(faithful, config):
    reading = read_outputs(faithful, faithful, config, IMAGES[:1])
    with pytest.raises(CandidateError, match="other shapes than before"):
        reading.heads([torch.zeros(1, 3)] * 10)
    with pytest.raises(CandidateError, match="other shapes than before"):
        reading.heads([])
