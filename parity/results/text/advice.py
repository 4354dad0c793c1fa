"""What to do first about something that is wrong, or that could not be compared."""

from __future__ import annotations

from parity.judge.verdict import Verdict
from parity.results.records.nodes import CONVERTED, Node, NodesResult, Suspect

_AGAIN = "then run this command again"

_PARAMETERS = (
    "load this parameter from the checkpoint as convert.py does, in PyTorch's layout, and let the "
    "layer compute with it as it is"
)
_TRAINING = "call the candidate's eval() before it is returned"
_INPUT = "give this layer the input that the model gives it"

_STEPS = {
    "epsilon": "set eps to the model's value, named above",
    "eps": "set eps to the model's value, named above",
    "momentum": (
        "set momentum to the model's value, named above, which is 1 minus TensorFlow's (it acts in "
        "training alone)"
    ),
    "training": _TRAINING,
    "batch-statistics": _TRAINING,
    "dropout": _TRAINING,
    "pool-zero-padding": "pad its input with float('-inf'), not with 0, before the max-pool",
    "padding-symmetric": (
        "pad as TensorFlow's SAME does, the odd pixel at the bottom and on the right, and give the "
        "convolution itself padding=0"
    ),
    "zero": "see that its parameters are loaded and that nothing multiplies its output by 0",
    "left-out": "call it where the model does",
    "layer-extra": "remove it, or call it as often as the model does",
    "output-order": (
        "return the tensors of the last layers as they are: the class logits of all levels, P3 "
        "first, then the box codes of all levels"
    ),
    "parameters-raw": "take the moving averages (EMA), or give --weights raw here too",
    "parameters-ema": "take the raw values, or leave --weights raw out here",
    "reduced-precision": "compute it in float32: no autocast, half or bfloat16",
    "parameters-rounded": "keep the checkpoint's float32 values: no half or bfloat16 on the way",
    "parameter-rounded": "keep the checkpoint's float32 values: no half or bfloat16 on the way",
    "parameter-missing": (
        "give the candidate this parameter, or say with --names which of its layers is which node"
    ),
    "parameter-extra": "remove it: the model computes nothing with it",
    "settings-other": "call it with the model's settings, named above",
    "weights-permuted": "give the fusion its inputs, and its weights, in the model's order",
    "input-missing": "give the fusion all of its inputs",
    "images-repeated": "compute each image of a batch on its own values",
    "other-form": (
        "use the uncompiled model, whose nodes are right, or let its compiler or backend make no "
        "more than roundings"
    ),
    "not-repeatable": (
        "let every call compute from its images alone: no state kept between calls, no training "
        "mode, no random numbers"
    ),
}
"""By the short name of what is wrong: an order, without its full stop."""

_FAMILIES = (
    ("parameter", _PARAMETERS),
    ("kernel-", _PARAMETERS),
    ("statistics-", _PARAMETERS),
    ("affine-", _PARAMETERS),
    ("input-", _INPUT),
)
"""The same by how the short name begins."""


def for_fault(slug: str, report: NodesResult, *, several: bool = False) -> str:
    """What to do about something whose name is known.

    Args:
        slug: Its short name, of a diagnosis or a finding.
        report: The comparison.
        several: Whether it is wrong at more places than one.
    """
    if not is_a_port(report):
        return _of_this_project()
    step = step_for(slug) or "make it compute what the model computes there"
    where = f"in {report.candidate}{', at each of these places,' if several else ''}"
    return _sentence(f"{where} {step}; {_AGAIN}")


def for_structure(report: NodesResult) -> str:
    """What to do about a candidate whose layers are not the model's.

    Args:
        report: The comparison.
    """
    if not is_a_port(report):
        return _of_this_project()
    return _sentence(
        f"make the layers in {report.candidate} those of the model, one statement on its structure "
        f"after another; {_AGAIN}"
    )


def step_for(slug: str) -> str | None:
    """What to do at the place of a fault, an order without its full stop; None where not known.

    Args:
        slug: The fault's short name.
    """
    family = next((step for start, step in _FAMILIES if slug.startswith(start)), None)
    return _STEPS.get(slug) or family


def for_unknown(suspect: Suspect | None, node: Node, report: NodesResult) -> str:
    """What to do about a node that differs for a reason that is not known.

    Args:
        suspect: What is known of it; None where nothing is.
        node: The node.
        report: The comparison.
    """
    if node.verdict is Verdict.REFERENCE_DIFFERS:
        return _sentence(
            "do not change the candidate for this; compare with another --reference, or with "
            "--dtype float64, to see whether the reference stays the odd one"
        )
    if not is_a_port(report):
        return _of_this_project()
    if node.from_exact is not None and not node.from_exact.finite:
        return _sentence(
            f"look for NaN or infinite values among this layer's parameters in {report.candidate}, "
            f"and for a division by zero or an overflow in it; {_AGAIN}"
        )
    if suspect is not None and not (suspect.tried or suspect.patterns or suspect.evidence):
        return _sentence(
            "run this command again with a larger --diagnose N, so that this node is looked at too"
        )
    if node.verdict is Verdict.CANDIDATE_DIFFERS:
        return _sentence(
            f"look for what makes this layer's arithmetic inaccurate in {report.candidate}: half "
            f"precision, bfloat16, TF32, a quantised or approximate operation, a convolution by "
            f"FFT or Winograd, or a formula in which digits cancel, as in 1 + tanh(x / 2) for a "
            f"sigmoid; {_AGAIN}"
        )
    return _sentence(
        f"read this layer's code in {report.candidate} with the description above in mind, all "
        f"steps between the layer before it and this one included; --closeups 1 --json FILE keeps "
        f"where in the tensor the two differ"
    )


def for_gap(node: Node, report: NodesResult) -> str:
    """What to do about a node that could not be compared.

    Args:
        node: The node.
        report: The comparison.
    """
    if node.silent:
        return _sentence(
            "give photographs with --image, so that the values at this node say something"
        )
    if node.kind is None:
        return _sentence(
            "remove this layer or call from the candidate, or say with --names FILE.json which of "
            "its submodules make the model's nodes; what is named is compared, and what lies "
            "between is not one too many then"
        )
    if node.shape is None:
        return _sentence(
            "say with --names FILE.json which submodule of the candidate makes this node; a layer "
            "that is a function call in it becomes visible as a module of its own"
        )
    if "its type is" in node.reason:
        return _sentence("let the candidate compute in the type that is compared in")
    if "--image" in node.reason:
        return _sentence(
            "give single images of your own with --image, as many as you like, and no --batch"
        )
    return _sentence(
        "mend what is said above, or give other images with --image; --verbose lists every node "
        "with its reason"
    )


def is_a_port(report: NodesResult) -> bool:
    """Whether the candidate is somebody's code, not a conversion of this project."""
    return not (report.candidate == CONVERTED or report.candidate.endswith(".pth"))


def _of_this_project() -> str:
    return _sentence(
        "if the candidate is a .pth file, write it again with convert.py from this checkpoint; if "
        "it is not, this is a defect of this program or of this computer's libraries: write the "
        "result with --json FILE and report it"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
