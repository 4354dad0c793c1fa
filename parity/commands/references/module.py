"""A converted PyTorch model as the reference: it needs no TensorFlow."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from efficientdet_spec import iterate_nodes
from parity.commands.references import Wanted
from parity.gradients.sides import ReferenceGradients
from parity.sides.side import Reference

ANY_SIZE = True


def accepts(path: Path | None) -> bool:
    """Whether it is named like a model that ``convert.py`` has written."""
    return path is not None and path.suffix == ".pth"


def opened(wanted: Wanted) -> AbstractContextManager[Reference]:
    """The model, which computes on the CPU with its own parameters.

    Raises:
        InputError: The file cannot be read, or is of another model than the checkpoint.
    """
    import torch

    from parity.sides.naming import own_paths
    from parity.sides.pytorch import TorchCandidate
    from parity.sides.pytorch.streaming import streaming
    from torch_model.checkpoint import load_same

    assert wanted.path is not None
    model = load_same(wanted.path, wanted.config)
    _, height, width, _ = wanted.shape
    nodes = list(iterate_nodes(wanted.config, (height, width)))
    candidate = TorchCandidate(
        model.to(getattr(torch, wanted.dtype)), own_paths(node.name for node in nodes)
    )
    reference = streaming(
        candidate,
        {node.name: node.kind for node in nodes},
        [node.name for node in nodes if node.is_output],
        {"kind": "module", "source": str(wanted.path)},
    )
    return nullcontext(reference)


def gradients(wanted: Wanted) -> ReferenceGradients:
    """The model's own.

    Raises:
        InputError: The file cannot be read, or is of another model than the checkpoint.
    """
    from parity.gradients.pytorch import TorchGradients
    from torch_model.checkpoint import load_same

    assert wanted.path is not None
    return TorchGradients(load_same(wanted.path, wanted.config)).gradients
