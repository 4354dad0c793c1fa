"""What a candidate returns or makes that cannot be read is told in a sentence."""

import numpy as np
import pytest
import torch
from torch import nn

from efficientdet_spec import Cause, InputError
from parity.judge.verdict import Verdict
from parity.lockstep.walk import problem_of
from parity.sides.naming import own_paths
from parity.sides.pytorch import TorchCandidate, TorchValue
from parity.sides.pytorch.code import Maker

FLOAT = np.dtype(np.float32)


class Returning(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, images):
        return self.make(images)


def itself(images):
    values = [images]
    values.append(values)
    return values


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (itself, "returns list that contains itself"),
        (lambda x: {"boxes": None}, "returns dict without a tensor"),
        (lambda x: [x.to_sparse()], "a tensor that is sparse_coo"),
        (lambda x: [x, x.to("meta")], "a tensor that is meta"),
    ],
)
def test_what_cannot_be_read_is_told(make, told):
    candidate = TorchCandidate(Returning(make), own_paths([]))
    with pytest.raises(InputError, match=told) as caught:
        candidate.run_unobserved(np.zeros((1, 4, 4, 3), np.float32))
    assert caught.value.cause is Cause.CANDIDATE


def test_a_model_without_values_is_told(tmp_path):
    path = tmp_path / "port.py"
    path.write_text("def make(model):\n    return model.to('meta')\n", "utf-8")
    with pytest.raises(InputError, match="whose weight is on the meta device"):
        Maker(path, "make")(nn.Linear(2, 2), (8, 8))


def test_complex_values_are_not_their_real_parts():
    real = torch.ones(2)
    assert TorchValue(real.double()).same(TorchValue(real))
    for other in (torch.complex(real, real), torch.complex(real, 0 * real)):
        assert not TorchValue(other).same(TorchValue(real))
        assert not TorchValue(real).same(TorchValue(other))
        assert TorchValue(other).same(TorchValue(other.clone()))


def test_a_layer_that_is_not_laid_out_plainly_is_not_compared():
    value = TorchValue(torch.ones(1, 2, 3, 4).to_sparse())
    problem = problem_of(value, np.ones((1, 3, 4, 2), np.float32), FLOAT)
    assert problem.verdict is Verdict.NOT_COVERED
    assert problem.text == "it makes a tensor that is sparse_coo, which is not looked into"


def test_one_image_at_a_time_is_no_other_function():
    reference = np.ones((2, 3, 4, 5), np.float32)
    problem = problem_of(TorchValue(torch.ones(1, 5, 3, 4)), reference, FLOAT)
    assert problem.verdict is Verdict.NOT_COVERED
    assert problem.text.startswith("it is made for 1 of 2 images at a time")
    problem = problem_of(TorchValue(torch.ones(2, 5, 3, 3)), reference, FLOAT)
    assert problem.verdict is Verdict.FUNCTION_DIFFERS


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.complex64, torch.complex128])
def test_runs_are_compared_in_any_type(dtype):
    one, other = (TorchValue(torch.tensor(value).to(dtype)) for value in ([0, 1], [1, 1]))
    assert one.identical(one) and not one.identical(other)
    assert one.apart(other) == 1


def test_imaginary_parts_count_between_runs():
    one, other = (TorchValue(torch.complex(torch.ones(2), torch.full((2,), y))) for y in (0.0, 2.0))
    assert not one.identical(other) and one.apart(other) == 2
