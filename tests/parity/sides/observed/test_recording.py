"""What is seen of the operations of a run: what each reads and makes, whatever the memory."""

import weakref

import pytest
import torch
from recorded_runs import IMAGES, recorded
from torch import nn

from parity.sides.pytorch.dispatch import Watching, written_by
from parity.sides.pytorch.observation.recording import content
from parity.sides.pytorch.observation.spans import Spans


def ancestors(record, number):
    """The operations that a value comes from, in order."""
    found, waiting = set(), [number]
    while waiting:
        value = record.values[waiting.pop()]
        if value.operation is not None:
            found.add((value.operation.number, value.operation.name))
        waiting += value.parents
    return [name for _, name in sorted(found)]


def from_images(record, number):
    """Whether a value comes from the images."""
    waiting = [number]
    while waiting:
        current = waiting.pop()
        if current == record.images:
            return True
        waiting += record.values[current].parents
    return False


@pytest.mark.parametrize(
    "function, names",
    [
        (lambda x: (x + 1).relu(), ["add", "relu"]),
        (lambda x: (x + 1).relu_().mul_(2), ["add", "relu_", "mul_"]),
        # A view is its base, and what is written to one is read from the other.
        (lambda x: _through_a_view(x), ["mul", "add_"]),
        (lambda x: torch.cat([x * 2, x + 1], 1), ["mul", "add", "cat"]),
        # Into memory that is there already, piece by piece.
        (lambda x: _into_pieces(x), ["zeros", "add", "copy_", "mul", "copy_"]),
        (lambda x: torch.add(x, 1, out=torch.empty_like(x)), ["add"]),
        (lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), ["clone"]),
    ],
)
def test_what_a_value_comes_from(function, names):
    record = recorded(function)
    assert ancestors(record, record.returned[0]) == names
    assert from_images(record, record.returned[0])


def _through_a_view(x):
    base = x * 2
    base[:, 1:].add_(1)
    return base


def _into_pieces(x):
    out = torch.zeros(1, 6, 4, 4)
    out[:, :3] = x + 1
    out[:, 3:] = x * 2
    return out


def _swish_(x):
    return x.mul_(torch.sigmoid(x))


def test_what_is_overwritten_is_no_longer_read():
    def function(x):
        kept = x * 2
        kept.copy_(torch.ones_like(kept))
        return kept + 1

    record = recorded(function)
    assert not from_images(record, record.returned[0])


def test_memory_that_is_used_again_is_not_mistaken():
    def function(x):
        for _ in range(50):
            (x * 3).sum()
        return torch.ones(1, 3, 4, 4) + 1

    record = recorded(function)
    assert not from_images(record, record.returned[0])


def test_observing_changes_no_bit_and_no_operation():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(inplace=True)).eval()
    with torch.no_grad():
        plain = layers(IMAGES)
    seen = []

    class Names(Watching):
        def behind(self, step):
            seen.append(step.name)

    with torch.no_grad(), Names():
        observed = layers(IMAGES)
    assert torch.equal(plain, observed)
    # Memory that a batch norm asks for is no step of the network.
    steps = [name for name in seen if not name.startswith("empty")]
    assert steps == ["convolution", "native_batch_norm", "silu_"]


def test_holding_what_was_made_does_not_shift_the_numbers():
    class Holding(Watching):
        def __init__(self, hold):
            super().__init__()
            self.hold, self.held, self.numbers = hold, [], []

        def behind(self, step):
            if step.number >= 0:
                self.numbers.append((step.number, step.name))
            if self.hold:
                self.held.append(step.output)

    watching = Holding(False), Holding(True)
    for mode in watching:
        with torch.no_grad(), mode:
            total = torch.zeros_like(IMAGES)
            for share in torch.ones(2):
                total += IMAGES * share
    assert watching[0].numbers == watching[1].numbers


def test_contents_are_known_in_any_order_and_told_apart():
    weight = torch.randn(4, 3, 2, 2)
    moved = weight.permute(2, 3, 1, 0).contiguous()
    changed = weight.clone()
    changed[1, 1, 1, 1] += 1e-6
    assert content(weight) == content(moved) != content(changed)
    assert content(torch.arange(3)) is None


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.sigmoid(x),
        # Nothing between two steps is rounded, where the second writes over the first either.
        lambda x: x.clone().mul_(0.1).add_(0.7).mul_(0.3),
        lambda x: _swish_(x.clone()),
        lambda x: (x.flatten(2).sum(-1) / 7)[:, :, None, None],
        lambda x: torch.cat([x, x * 0.3], 1),
    ],
)
def test_a_span_is_computed_again_without_roundings(function):
    spans = Spans()

    class Collecting(Watching):
        def before(self, function, args, kwargs):
            written = written_by(function, args, kwargs)
            if written:
                spans.before(written)

        def behind(self, step):
            spans.behind(step)

    x = torch.randn(1, 3, 4, 4)
    with torch.no_grad(), Collecting():
        made = function(x)
    found = spans.ended(made)
    assert found.exact().dtype is torch.float64
    assert torch.equal(found.exact(), function(x.double()))
    # What is not the whole of what was done has no exact value.
    made += 1
    assert found.exact() is None


def test_a_span_does_not_keep_what_it_has_made():
    """What a candidate lets go is gone, be there a span that would make it again."""
    gone = []

    def function(x):
        between = x * 2
        gone.append(weakref.ref(between))
        return between + 1

    spans = Spans()

    class Collecting(Watching):
        def behind(self, step):
            spans.behind(step)

    x = torch.randn(1, 3, 4, 4)
    with torch.no_grad(), Collecting():
        made = function(x)
    assert gone[0]() is None
    span = spans.ended(made)
    assert [tensor is x for tensor in span.given] == [True]
    assert torch.equal(span.exact(), function(x.double()))
