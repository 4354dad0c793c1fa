"""How many nodes of ports without names are found, and how many of them rightly.

Run from the repository's root by ``make pairing``. The ports are written here, in many styles, so
that it is known what each of their steps makes. Per port:

* *covered*: nodes on which the comparison has a verdict, of all;
* *recall*: nodes whose partner holds, bit for bit, what the port's own step made, of all that some
  step of it makes;
* *precision*: the same, of all nodes that have a partner.

A node that no step makes, such as a convolution with a batch norm folded into it, or one that a
fault leaves out, should have no partner.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from port_styles import STYLES, Port
from scripted_port import STEPS, Written, scripted_port

from benchmarks import common
from converter.conversion import convert
from converter.fetch.sources import default_cache, resolve
from efficientdet_spec import iterate_nodes
from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare_isolated
from parity.lockstep.pairing import Pairing
from parity.process import environment
from parity.sides.naming import own_paths
from parity.sides.observed.layouts import layouts
from parity.sides.pytorch import FaithfulReferee, TorchCandidate
from parity.sides.pytorch.observation.arranging import nchw_of
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.pytorch.streaming import streaming
from parity.sides.replay import kept
from torch_model.checkpoint import from_arrays

SCRIPT = "script"
"""The style that is none of :data:`STYLES`, and has no folded form."""


class Opened:
    """A seeded model as the reference, in PyTorch, with what pairing needs besides.

    Args:
        conversion: Its values.
        size: Height and width of the images.
    """

    def __init__(self, conversion, size):
        nodes = list(iterate_nodes(conversion.config, size))
        self.kinds = {node.name: node.kind for node in nodes}
        self.outputs = [node.name for node in nodes if node.is_output]
        arrays = {name: array.copy() for name, array in conversion.arrays.items()}
        model = from_arrays(conversion.config, arrays, "seeded")
        self.images = np.random.default_rng(0).standard_normal((1, *size, 3)).astype("float32")
        self.referee = FaithfulReferee(model, self.kinds, self.images.shape)
        candidate = TorchCandidate(model, own_paths(self.kinds))
        self.reference = kept(streaming(candidate, self.kinds, self.outputs, {}))

    def pairing(self, model):
        """A comparison with a port."""
        candidate = ObservedCandidate(model, list(self.kinds))
        return Pairing(self.reference, candidate, self.referee, self.images)


def scaled(style, layer, given, step):
    return step() * 1.25


def slope(style, layer, given, step):
    return given[0] * torch.sigmoid(1.5 * given[0])


def left_out(style, layer, given, step):
    return given[0]


class Telling(Port):
    """A port that keeps a copy of what each of its steps makes."""

    made: dict

    def _step(self, node, kind, layer, given):
        result = super()._step(node, kind, layer, given)
        if self._fault.get(node) is not left_out:
            self.made[node] = result.clone()
        return result

    def forward(self, images):
        self.made = {}
        returned = super().forward(images)
        # A batch norm that is folded is made by the convolution, which then makes no other node.
        for node, source in self._skipped.items():
            self.made[node] = self.made.pop(source)
        return returned


@dataclass(frozen=True)
class Figures:
    """What was found in one port.

    Attributes:
        nodes: All nodes.
        covered: Those with a verdict.
        made: Those that a step of the port makes.
        paired: Those with a partner.
        right: Those of them whose partner holds what the port's step made.
        wrong: The others' names.
        seconds: For finding them.
    """

    nodes: int
    covered: int
    made: int
    paired: int
    right: int
    wrong: list[str]
    seconds: float

    @property
    def shares(self) -> tuple[float, float, float]:
        """Covered, recall and precision."""
        return (
            self.covered / self.nodes,
            self.right / max(self.made, 1),
            self.right / max(self.paired, 1),
        )


def figures(opened, model, truth):
    """Pair a port and count.

    Args:
        opened: What it is compared with.
        model: The port.
        truth: Gives, after a run of the port on the images, by node what its steps have made.
    """
    pairing = opened.pairing(model)
    started = time.perf_counter()
    pairing.candidate.prepare(opened.reference, opened.referee, opened.images)
    seconds = time.perf_counter() - started
    seen = {}

    def visit(node, made):
        seen[node] = made.value.tensor.clone()

    pairing.run(visit)
    made = truth()
    right = [node for node, tensor in seen.items() if node in made and same(tensor, made[node])]
    wrong = [node for node in seen if node not in right]
    nodes = compare_isolated(pairing)
    covered = sum(node.verdict is not Verdict.NOT_COVERED for node in nodes)
    return Figures(len(nodes), covered, len(made), len(seen), len(right), wrong, seconds)


def same(seen, made):
    """Whether a node as it was seen, [N, C, H, W], is what a step has made in whatever layout."""
    batch, channels, height, width = seen.shape
    found = layouts(tuple(made.shape), (batch, height, width, channels))
    return any(torch.equal(nchw_of(made, layout), seen) for layout in found)


def ported(opened, style, *, folded=False, fault=None):
    """A port in a style, and what gives by node what its steps make in a run."""
    if style == SCRIPT:
        script = scripted_port(opened.referee, opened.outputs)
        return script, lambda: steps_of_script(opened)
    port = Telling(opened.referee, opened.outputs, STYLES[style](), fault, folded).eval()
    return port, lambda: port.made


def steps_of_script(opened):
    """What the steps of the script make, from the same modules before they are scripted."""
    calls = opened.referee.calls
    places = {node: number for number, node in enumerate(calls, 1)}
    made = {}

    def hook(node):
        return lambda module, given, output: made.__setitem__(node, output.clone())

    steps = []
    for node, call in calls.items():
        sources = [places.get(source, 0) for source in call.sources]
        steps.append(STEPS[opened.referee.kinds[node]](sources, call))
        steps[-1].register_forward_hook(hook(node))
    with torch.no_grad():
        images = torch.from_numpy(opened.images).permute(0, 3, 1, 2).contiguous()
        Written(steps, [places[node] for node in opened.outputs]).eval()(images)
    return made


FAULTS = {
    "another slope": ("backbone.blocks.2.depthwise_act", slope),
    "no shortcut": ("backbone.blocks.2.residual", left_out),
    "a fusion times 1.25": ("fpn.cells.0.nodes.3.fuse", scaled),
}


def cases(faults):
    """(style, folded, what is wrong in it)."""
    for style in STYLES:
        for folded in (False, True):
            yield style, folded, ""
            if faults and not folded:
                yield from ((style, folded, fault) for fault in FAULTS)
    yield SCRIPT, False, ""


def text(rows):
    """The figures as a table."""
    lines = [("model", "style", "fault", "covered", "recall", "precision", "right/paired", "s")]
    for row in rows:
        found = row["figures"]
        lines.append(
            (
                row["model"],
                row["style"] + (", folded" if row["folded"] else ""),
                row["fault"],
                *(f"{share:.1%}" for share in found.shares),
                f"{found.right}/{found.paired}",
                f"{found.seconds:.1f}",
            )
        )
    return common.table(lines)


def main():
    parser = argparse.ArgumentParser(prog="python -m pairing_figures", description=__doc__)
    parser.add_argument("models", metavar="MODEL", nargs="*", default=["tiny", "d0"])
    parser.add_argument("--size", type=int, default=128, help="of the images; default: 128")
    parser.add_argument("--no-faults", action="store_true", help="only faithful ports")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    arguments = parser.parse_args()
    environment.prepare()
    torch.set_num_threads(1)
    rows = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as name:
            files = resolve(str(common.seed(model, Path(name))), default_cache())
            opened = Opened(convert(files), (arguments.size, arguments.size))
        for style, folded, fault in cases(not arguments.no_faults):
            print(f"{model}: {style} {fault} ...", file=sys.stderr)
            put_in = dict([FAULTS[fault]]) if fault else None
            port, truth = ported(opened, style, folded=folded, fault=put_in)
            found = figures(opened, port, truth)
            rows.append(
                {"model": model, "style": style, "folded": folded, "fault": fault, "figures": found}
            )
    print(text(rows))
    results = [row | {"figures": asdict(row["figures"])} for row in rows]
    common.write(arguments.json, "pairing", {"size": arguments.size, "rows": results}, 1)


if __name__ == "__main__":
    main()
