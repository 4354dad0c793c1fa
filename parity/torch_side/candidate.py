"""Candidates that are given as code: a Python file and the function in it that makes the model."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from efficientdet_spec import InputError


def from_code(path: Path, function: str, faithful: nn.Module) -> nn.Module:
    """The model that a function in a Python file returns.

    The file is run, with the rights of whoever runs this program. Its folder can be imported
    from. A function that takes an argument is given a copy of the faithful model.

    Args:
        path: The file.
        function: Name of the function.
        faithful: The model with the checkpoint's parameters.

    Raises:
        InputError: There is no such file or function, it fails, or it returns something else.
    """
    maker = _find(path, function)
    source = f"{path}:{function}"
    try:
        needed = [
            parameter
            for parameter in inspect.signature(maker).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        model = maker(copy.deepcopy(faithful)) if needed else maker()
    except (Exception, SystemExit) as error:
        raise InputError(_failed(source, error)) from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{source} returns {type(model).__name__}; it must return a torch.nn.Module that takes "
            f"[N, 3, H, W] images and returns class and box outputs, one NCHW tensor per level."
        )
    return model


def _find(path: Path, function: str) -> Callable[..., Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the path of a Python file and a function.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"candidate_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported; give a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(_failed(str(path), error)) from error
    found = getattr(module, function, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        has = f"it has {', '.join(names[:5])}" if names else "it has none"
        raise InputError(f"{path} has no function {function!r}; {has}.")
    return found  # type: ignore[no-any-return]


def _failed(source: str, error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return (
        f"{source} fails with {type(error).__name__}: {lines[0]:.200}; run it by itself to see "
        f"where, and correct it"
    )


_PARITY = Path(__file__).resolve().parents[1]
_NOT_THEIRS = (
    Path(torch.__file__).resolve().parent,
    _PARITY,
    _PARITY.with_name("torch_model"),
)
"""Where an error may come to light, but has not been made."""


def where(error: BaseException) -> str:
    """The last line of a candidate's own code that an error passed through.

    Args:
        error: What it raised.

    Returns:
        Such as `` (at /home/me/model.py, line 12)``; empty where no line is its own.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not any(path.resolve().is_relative_to(f) for f in _NOT_THEIRS):
            return f" (at {path}, line {frame.lineno})"
    return ""
