"""Scripts compute what models under other hyperparameters should, and what ports made instead."""

import pytest
import torch.nn.functional as F
from other_models import MODELS, OtherModel
from port_styles import STYLES, Port
from reproductions import evidence_of
from sampling import one_in

from parity.reproduction.making import reproduced

ACT = "fpn.cells.0.nodes.3.act"
FUSE = "fpn.cells.0.nodes.3.fuse"


def one_weight(style, layer, given, step):
    maps, weights = given
    shares = F.relu(weights.mean(1))
    shares = shares / (shares.sum() + 1e-4)
    return sum(x * share for x, share in zip(maps, shares, strict=True))


CASES = {
    "relu6 without its limit": ("lite", ACT, lambda style, layer, given, step: F.relu(given[0])),
    "relu6 with another": ("lite", ACT, lambda style, layer, given, step: given[0].clamp(0, 5)),
    "swish for hard swish": (
        "hard swish", ACT, lambda style, layer, given, step: F.silu(given[0])
    ),
    "swish for mish": ("mish", ACT, lambda style, layer, given, step: F.silu(given[0])),
    "one weight for all channels": ("channels", FUSE, one_weight),
    "a sum for softmax": (
        "softmax of channels", FUSE, lambda style, layer, given, step: sum(given[0])
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", one_in(3, CASES))
def test_a_script_computes_what_is_wrong(case, tmp_path):
    name, node, fault = CASES[case]
    at = OtherModel(MODELS[name])
    port = Port(at.referee, at.outputs, STYLES["functions"](), {node: fault}).eval()
    told = at.tell(port, observed=True, limit=1)
    assert told.suspects[0].slug
    evidence = evidence_of(told)
    result = reproduced(
        told.pairing, evidence, evidence.nodes, tmp_path / "made", model="tiny", candidate="port"
    )
    assert result.computed, result
