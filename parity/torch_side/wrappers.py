"""What a candidate is wrapped in, and which wrappings cannot be observed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from efficientdet_spec import InputError, NodeKind
from parity.naming import Naming, base


def check_observable(model: nn.Module, naming: Naming, kinds: Mapping[str, NodeKind]) -> None:
    """Raise where a candidate's layers cannot be observed in the form in which it is given.

    Args:
        model: The candidate.
        naming: Which of its submodules make which nodes.
        kinds: What each node of the reference computes.

    Raises:
        InputError: Says what it is and which form of it to give instead.
    """
    for path, module in model.named_modules():
        where = f" (at {path})" if path else ""
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"The candidate is a TorchScript module{where}, whose layers cannot be observed; "
                f"give the eager module that it was traced or scripted from."
            )
        if parametrize.is_parametrized(module) or _computes_weight(module):
            raise InputError(
                f"The candidate computes a weight from other parameters before each use{where}, as "
                f"weight norm does; give it with plain weights, such as after "
                f"torch.nn.utils.parametrize.remove_parametrizations or remove_weight_norm."
            )
    norms = {base(node) for node, kind in kinds.items() if kind is NodeKind.BATCH_NORM}
    paths = naming.path_of()
    places = {node: path for node, path in paths.items() if base(node) in norms}
    found = [_at(model, path) for path in places.values()]
    if naming.strict and found and all(isinstance(module, nn.Identity) for module in found):
        raise InputError(
            f"All {len(norms)} batch norms of the candidate are nn.Identity, as after folding them "
            f"into their convolutions; give the model before it is folded."
        )


def _computes_weight(module: nn.Module) -> bool:
    """Whether the older ``torch.nn.utils.weight_norm`` or ``spectral_norm`` acts on a layer."""
    hooks = module._forward_pre_hooks.values()
    return any(type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks)


def _at(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def common_prefix(paths: Iterable[str], nodes: Iterable[str]) -> str:
    """What a candidate's paths begin with where it holds a model of the faithful one's paths.

    ``module.`` of a DataParallel, ``_orig_mod.`` of a compiled module, or that of any module that
    keeps the model in an attribute.

    Args:
        paths: Of the candidate's modules.
        nodes: The reference's nodes.

    Returns:
        The prefix under which most nodes are found; empty where it has none or needs none.
    """
    known = set(paths)
    wanted = {base(node) for node in nodes}
    best, most = "", len(wanted & known)
    if 2 * most >= len(wanted):
        return best
    first = next(iter(sorted(wanted)), "")
    for path in sorted(known):
        prefix = path.removesuffix(first)
        if first and prefix != path and prefix.endswith("."):
            count = sum(f"{prefix}{name}" in known for name in wanted)
            if count > most:
                best, most = prefix, count
    return best if 2 * most >= len(wanted) else ""


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` stands between a candidate's layers and what runs."""
    return any(
        hasattr(module, "_orig_mod")
        and "_dynamo" in type(module).__module__
        or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextmanager
def eager() -> Iterator[None]:
    """Within it compiled modules run as they were written, so that their layers can be observed."""
    stance: Callable[..., Any] = torch.compiler.set_stance
    with stance("force_eager"):
        yield
