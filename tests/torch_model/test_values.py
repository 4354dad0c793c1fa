"""Whether a module still holds the values that something was made of."""

import pytest
import torch

from torch_model.values import Values


def module():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    )


def write(it):
    with torch.no_grad():
        it[2].bias.add_(1)


def write_buffer(it):
    it[1].running_mean.fill_(1)


def load(it):
    it.load_state_dict(it.state_dict())


def assign(it):
    it.load_state_dict(it.state_dict(), assign=True)


def other_parameter(it):
    it[0].weight = torch.nn.Parameter(it[0].weight.detach().clone())


def parameter_where_none_was(it):
    it[0].bias = torch.nn.Parameter(torch.zeros(4))


def parameter_taken_away(it):
    it[2].bias = None


def other_memory(it):
    it[2].weight.data = it[2].weight.data * 2


def there_and_back(it):
    it[0].bfloat16().float()


def swapped(it):
    torch.utils.swap_tensors(
        it[0].weight, torch.nn.Parameter(it[0].weight.detach().clone(), requires_grad=False)
    )


def other_part(it):
    it[2] = torch.nn.Linear(4, 2)


def part_added(it):
    it.append(torch.nn.ReLU())


def part_taken_away(it):
    del it[2]


@pytest.mark.parametrize(
    "change",
    [
        write,
        write_buffer,
        load,
        assign,
        other_parameter,
        parameter_where_none_was,
        parameter_taken_away,
        other_memory,
        there_and_back,
        swapped,
        other_part,
        part_added,
        part_taken_away,
    ],
)
def test_a_change_is_seen(change):
    it = module()
    values = Values(it)
    assert values.same()
    change(it)
    assert not values.same()
    assert Values(it).same()


def test_computing_changes_nothing():
    it = module()[:2].eval()
    values = Values(it)
    it(torch.zeros(1, 3, 2, 2))
    assert values.same()


def test_training_changes_a_norm():
    it = module()[:2].train()
    values = Values(it)
    it(torch.zeros(1, 3, 2, 2))
    assert not values.same()


def test_values_made_where_nothing_is_recorded():
    with torch.inference_mode():
        it = module()
    values = Values(it)
    assert values.same()
    it[2] = torch.nn.Linear(4, 2)
    assert not values.same()
