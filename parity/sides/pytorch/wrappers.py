"""What a candidate is wrapped in, and which wrappings cannot be observed yet."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from efficientdet_spec import Cause, InputError, NodeKind
from parity.process.frames import first_line
from parity.sides.naming import Naming, base
from parity.sides.pytorch.referee import FaithfulReferee
from parity.sides.side import COMPILED, OPTIMIZED, PARALLEL, Form

_COMPILED = "_orig_mod"
"""Under which name a compiled module holds the one that was compiled."""

_WRITTEN = "as_written"
"""The method of a module that runs otherwise than it is written, within which it does not."""

FOLDED = 1e-5
"""Relative difference up to which a kernel is one that a batch norm was folded into, in float32."""


def check_observable(model: nn.Module, naming: Naming, referee: FaithfulReferee) -> None:
    """Raise where a candidate's layers cannot be observed in the form in which it is given.

    Args:
        model: The candidate.
        naming: Which of its submodules make which nodes.
        referee: The faithful model.

    Raises:
        InputError: Says what it is and which form of it to give instead.
    """
    for path, module in model.named_modules():
        where = f" (at {path})" if path else ""
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"The candidate is a TorchScript module{where}, whose layers cannot be observed; "
                f"give the eager module that it was traced or scripted from.",
                Cause.CANDIDATE,
            )
        if parametrize.is_parametrized(module) or _computes_weight(module):
            raise InputError(
                f"The candidate computes a weight from other parameters before each use{where}, as "
                f"weight norm does; give it with plain weights, such as after "
                f"torch.nn.utils.parametrize.remove_parametrizations or remove_weight_norm.",
                Cause.CANDIDATE,
            )
    folded = _folded(model, naming, referee) if naming.strict else []
    if folded:
        raise InputError(
            f"The candidate has {len(folded)} batch norms folded into their convolutions (first "
            f"{folded[0]}), which cannot be taken apart; give the model before it is folded.",
            Cause.CANDIDATE,
        )


def _folded(model: nn.Module, naming: Naming, referee: FaithfulReferee) -> list[str]:
    """The batch norms that are nn.Identity while their convolution has taken over their scale."""
    paths = naming.path_of()
    found: dict[str, None] = {}
    for node, call in referee.calls.items():
        source = call.sources[0] if call.sources else None
        if referee.kinds[node] is not NodeKind.BATCH_NORM or source not in paths:
            continue
        norm: Any = call.module
        faithful: Any = referee.calls[source].module
        conv: Any = _at(model, paths[source])
        if not isinstance(_at(model, paths.get(node, "")), nn.Identity) or conv is None:
            continue
        weight = getattr(conv, "weight", None)
        if not isinstance(weight, Tensor) or weight.shape != faithful.weight.shape:
            continue
        with torch.no_grad():
            scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
            expected = faithful.weight.double() * scale.view(-1, 1, 1, 1)
            if torch.allclose(weight.detach().cpu().double(), expected, rtol=FOLDED, atol=0):
                found[base(node)] = None
    return list(found)


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


def form_of(model: nn.Module) -> Form | None:
    """In which other form than the one that can be seen a candidate is run; None for none."""
    if next(_optimized(model), None) is not None:
        return OPTIMIZED
    if _is_compiled(model):
        return COMPILED
    return PARALLEL if any(_in_threads(module) for module in model.modules()) else None


def _optimized(model: nn.Module) -> Iterator[Any]:
    """The modules in a model, or the model, that can also run as they are written.

    Their class has a method ``as_written``, a context manager within which they do, as
    :class:`torch_model.optimized.OptimizedEfficientDet` has one.
    """
    return (
        module
        for module in model.modules()
        if inspect.isfunction(found := getattr(type(module), _WRITTEN, None))
        and len(inspect.signature(found).parameters) == 1
    )


def _written(module: Any) -> AbstractContextManager[Any]:
    """A module's own context within which it runs as it is written.

    Raises:
        InputError: Its method gives none.
    """
    place = f"{type(module).__name__}.{_WRITTEN}"
    try:
        found = getattr(module, _WRITTEN)()
    except Exception as error:
        raise InputError(
            f"The candidate's {place} fails with {first_line(error)}; it is taken for a method "
            f"that gives a context manager within which the layers run as written: correct it, or "
            f"give it another name.",
            Cause.CANDIDATE,
        ) from error
    if not isinstance(found, AbstractContextManager):
        raise InputError(
            f"The candidate's {place} gives a {type(found).__name__}, and is taken for a method "
            f"that gives a context manager within which the layers run as written: let it do that, "
            f"or give it another name.",
            Cause.CANDIDATE,
        )
    return found


def _in_threads(module: nn.Module) -> bool:
    """Whether copies of a module run on several devices at a time, each in a thread."""
    return isinstance(module, nn.DataParallel) and len(module.device_ids) > 1


def _is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` stands between a candidate's layers and what runs."""
    return any(
        hasattr(module, _COMPILED)
        and "_dynamo" in type(module).__module__
        or getattr(module, "_compiled_call_impl", None) is not None
        # What torch.compile makes of a function, be it a module's own or its class's.
        or hasattr(getattr(module, "forward", None), "_torchdynamo_orig_callable")
        for module in model.modules()
    )


def hides_parts(path: str) -> bool:
    """Whether a submodule's path leads through a compiled module, which has a name of its own."""
    return _COMPILED in path.split(".")


def is_script(model: nn.Module) -> bool:
    """Whether a candidate is, or has a part that is, a script of ``torch.jit``."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Within it a model runs as it was written: not compiled or optimised, and on one device.

    What a function that was compiled does can be seen then too, and what copies of a module on
    several devices do in threads, which no mode sees.
    """
    threaded: list[Any] = [module for module in model.modules() if _in_threads(module)]
    devices = [module.device_ids for module in threaded]
    with _uncompiled.within(), ExitStack() as stack:
        for optimized in _optimized(model):
            stack.enter_context(_written(optimized))
        for module in threaded:
            module.device_ids = []
        try:
            yield
        finally:
            for module, ids in zip(threaded, devices, strict=True):
                module.device_ids = ids


class _Uncompiled:
    """Keeps PyTorch from compiling for as long as anything in this process needs that.

    PyTorch has one such setting for all threads. A reference runs in a thread of its own, and may
    begin before a candidate's run and end within it: if each put back what it found, the last one
    would put back the other's, and no compiled candidate would run as compiled from then on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._stance: Any = None

    @contextmanager
    def within(self) -> Iterator[None]:
        """Within it what was compiled runs as it was written."""
        with self._lock:
            self._count += 1
            # Where nothing has been compiled there is nothing to prevent, and much to import.
            if self._stance is None and "torch._dynamo" in sys.modules:
                self._stance = torch.compiler.set_stance("force_eager")
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if not self._count and self._stance is not None:
                    self._stance.__exit__(None, None, None)
                    self._stance = None


_uncompiled = _Uncompiled()
