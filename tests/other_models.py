"""Models under other hyperparameters than the release's: a reference of each, and what it tells."""

from dataclasses import dataclass, replace

import torch
from configurations import PLAIN_STAGES
from made_images import waves

from efficientdet_spec import Activation, Fusion, get_config, iterate_nodes
from efficientdet_spec.wiring import qufpn
from parity.diagnosis.structures import structures
from parity.diagnosis.suspects import Known, diagnosed, findings, suspects
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.sides.naming import own_paths
from parity.sides.pytorch import FaithfulReferee, TorchCandidate
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.pytorch.streaming import streaming
from parity.sides.replay import kept
from torch_model import build
from torch_model.calibrate import calibrated_statistics
from torch_model.checkpoint import from_arrays
from torch_model.preprocess import preprocess

TINY = get_config("tiny")
MODELS = {
    "release": TINY,
    "lite": replace(
        TINY, activation=Activation.RELU6, fusion=Fusion.SUM, backbone_stages=PLAIN_STAGES
    ),
    "relu": replace(TINY, activation=Activation.RELU, backbone_stages=PLAIN_STAGES),
    "hard swish": replace(TINY, activation=Activation.HARD_SWISH),
    "mish": replace(TINY, activation=Activation.MISH),
    "softmax": replace(TINY, fusion=Fusion.SOFTMAX_ATTENTION),
    "channels": replace(TINY, fusion=Fusion.CHANNEL_FAST_ATTENTION),
    "softmax of channels": replace(TINY, fusion=Fusion.CHANNEL_SOFTMAX_ATTENTION),
    "sum": replace(TINY, fusion=Fusion.SUM),
    "whole convolutions": replace(TINY, separable_conv=False),
    "norm before activation": replace(TINY, conv_bn_act=True),
    "pool first": replace(TINY, conv_after_downsample=True),
    "no norm of features": replace(TINY, resample_bn=False),
    "residuals": replace(TINY, head_survival_probability=0.8),
    "quad FPN": replace(TINY, fpn_nodes=qufpn(TINY.levels)),
}
"""By what is other in them."""


def drawn(config):
    """Seeded parameters and statistics that fit them; many values pass 6 where that is a limit."""
    generator = torch.Generator().manual_seed(0)
    scale = 2.5 if config.activation is Activation.RELU6 else 1.0
    arrays = {}
    for name, value in build(config).state_dict().items():
        value = value.clone()
        if value.dim() == 4:
            torch.nn.init.kaiming_normal_(value, generator=generator)
        elif name.endswith("weights"):
            value = torch.rand(value.shape, generator=generator) * 1.2 - 0.1
        elif name.endswith("weight"):
            value = (torch.rand(value.shape, generator=generator) + 0.5) * scale
        elif name.endswith("bias"):
            value = torch.randn(value.shape, generator=generator) * 0.3
        if value.dim():
            arrays[name] = value.numpy()
    images = preprocess(waves(256, 256), 256, 256)[None]
    return calibrated_statistics(images, config, arrays)


@dataclass(frozen=True)
class Told:
    """What a comparison tells, and of what: ``failing`` are the names of the nodes that do."""

    outcome: object
    failing: list
    suspects: list
    statements: list
    nodes: dict
    pairing: Pairing
    findings: list


class OtherModel:
    """A model as the reference, computed by PyTorch, and candidates to compare with it."""

    def __init__(self, config, size=(128, 128)):
        self.config = config
        self.arrays = drawn(config)
        nodes = list(iterate_nodes(config, size))
        self.kinds = {node.name: node.kind for node in nodes}
        self.outputs = [node.name for node in nodes if node.is_output]
        self.images = preprocess(waves(*size), *size)[None]
        self.faithful = self.model()
        self.referee = FaithfulReferee(self.faithful, self.kinds, self.images.shape)
        computing = TorchCandidate(self.model(), own_paths(self.kinds))
        self._reference = kept(streaming(computing, self.kinds, self.outputs, {}))

    def model(self):
        arrays = {name: array.copy() for name, array in self.arrays.items()}
        return from_arrays(self.config, arrays, "seeded")

    def other(self, **changes):
        """Our network with other hyperparameters, and the parameters that still fit."""
        model = build(replace(self.config, **changes))
        state = model.state_dict()
        for name, array in self.arrays.items():
            if name in state and state[name].shape == array.shape:
                state[name] = torch.from_numpy(array.copy())
        model.load_state_dict(state)
        return model.eval()

    def tell(self, model, *, observed=False, limit=0):
        """What a comparison tells of a candidate.

        Args:
            model: The candidate.
            observed: Whether it is known by its operations alone, and not by its modules' paths.
            limit: Suspects that hypotheses are tried on.
        """
        if observed:
            candidate = ObservedCandidate(model, list(self.kinds))
        else:
            candidate = TorchCandidate(model, own_paths(self.kinds))
        pairing = Pairing(self._reference, candidate, self.referee, self.images)
        found = compare(pairing)
        failing = [node.name for node in found.nodes if not node.verdict.passes]
        guilty = suspects(pairing, found.nodes)
        known = Known(self.faithful, {})
        what = []
        if limit:
            what = findings(pairing, known)
            guilty = diagnosed(pairing, guilty, found.nodes, known, what, limit)
        said = structures(pairing, found.nodes, self.config)
        nodes = {node.name: node for node in found.nodes}
        return Told(found.outcome, failing, guilty, said, nodes, pairing, what)
