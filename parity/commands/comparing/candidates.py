"""The candidate of a comparison: converted, from a file, made by a function, or alive."""

from __future__ import annotations

import copy
from typing import Any

from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.sides.naming import split_candidate


def open_candidate(text: str | None, config: EfficientDetConfig, faithful: Any) -> Any:
    """What ``--candidate`` names.

    Args:
        text: A ``.pth`` file or FILE.py:FUNCTION; None for the converted model.
        config: The model.
        faithful: The converted model.

    Raises:
        InputError: There is no such file or function, or it gives something else.
    """
    from parity.sides.pytorch.code import from_code
    from torch_model.checkpoint import load_same

    if text is None:
        return faithful
    path, function = split_candidate(text)
    if function is not None:
        return from_code(path, function, faithful)
    return load_same(path, config)


def check_candidate(text: str | None) -> None:
    """Refuse what cannot be a candidate, before anything is read or computed.

    Args:
        text: As of ``--candidate``.

    Raises:
        InputError: There is no such file, or it is not said which of its functions is meant.
    """
    if text is None:
        return
    path, function = split_candidate(text)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        what = "is no regular file" if path.exists() and not path.is_dir() else what
        raise InputError(
            f"{path} {what}; give a .pth that convert has written, or FILE.py:FUNCTION.",
            Cause.FILE,
        )
    if function is not None:
        from parity.sides.pytorch.code import check_function

        check_function(path, function)
    elif path.suffix == ".py":
        from parity.sides.pytorch.code import functions

        found = functions(path)
        has = f"it has {', '.join(found[:8])}" if found else "it has none"
        raise InputError(
            f"{path} is a Python file, but it is not said which of its functions returns the "
            f"model ({has}); write it as in {path}:{found[0] if found else 'build'}.",
            Cause.OPTION,
        )


def placed(candidate: Any, device: Any, dtype: Any, *, alive: bool) -> Any:
    """The candidate on a device in a type of computation.

    Args:
        candidate: The module.
        device: Where it is to compute.
        dtype: In which type.
        alive: Whether it belongs to a caller, and must stay as it is.
    """
    if not alive:
        return candidate.to(device, dtype)
    values = [*candidate.parameters(), *candidate.buffers()]
    moves = any(
        value.device.type != device.type or (value.is_floating_point() and value.dtype != dtype)
        for value in values
    )
    return copy.deepcopy(candidate).to(device, dtype) if moves else candidate


def name_of(candidate: Any) -> str:
    """What results call a module that a caller has handed over.

    Args:
        candidate: The module.
    """
    kind = type(candidate)
    return f"{kind.__module__}.{kind.__qualname__} (a live module)"
