"""Two candidates are one where values, settings and code are, in whatever process."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from parity.sides.pytorch.identity import identity

ROOT = Path(__file__).resolve().parents[3]


def made(change=lambda model: None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1)).eval()
    model.pad = partial(F.pad, pad=(0, 1, 0, 1), value=0.0)
    change(model)
    return identity(model)


def scaled(model):
    model[0].weight.data[0, 0, 0, 0] += 1e-6


def counted(model):
    model[1].num_batches_tracked += 1


def eps(model):
    model[1].eps = 1e-3


def training(model):
    model.train()


def padded(model):
    model.pad = partial(F.pad, pad=(0, 1, 0, 1), value=float("-inf"))


def other_layer(model):
    model[2] = nn.Identity()


@pytest.mark.parametrize("change", [scaled, counted, eps, training, padded, other_layer])
def test_whatever_changes_what_is_computed_is_another(change):
    assert made() == made()
    assert made(change) != made()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_scripts_are_told_apart_by_their_code():
    def traced(slope):
        return torch.jit.trace(nn.LeakyReLU(slope).eval(), torch.zeros(1, 3), check_trace=False)

    assert identity(traced(0.1)) == identity(traced(0.1)) != identity(traced(0.2))


PORT = """
import helper
from torch import nn


class Port(nn.Module):
    def forward(self, x):
        return helper.twice(x)
"""

ASK = """
import sys
sys.path[:0] = [{root!r}, {folder!r}]
import json, port
from parity.sides.pytorch.identity import identity
print(json.dumps(identity(port.Port())))
"""


def test_a_users_own_code_counts_also_where_it_is_imported(tmp_path):
    (tmp_path / "port.py").write_text(PORT)

    def asked(factor):
        (tmp_path / "helper.py").write_text(f"def twice(x):\n    return {factor} * x\n")
        code = ASK.format(root=str(ROOT), folder=str(tmp_path))
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout

    first = asked(2)
    assert '"helper"' in first and '"port"' in first
    assert asked(2) == first
    assert asked(3) != first
