"""What a candidate is, as digests: its values, how it is built, and the code that computes it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from efficientdet_spec import file_sha256
from parity.process.frames import in_project, of_standard_library, of_user
from parity.sides.pytorch.hooks import state
from parity.sides.pytorch.nested import plain, unreadable

_MANGLED = re.compile(rb"\.?___torch_mangle_\d+|#.*")
"""What differs between two scripts of one model: numbers of classes, comments on places."""

_TENSORS = ("_parameters", "_buffers", "_modules")
"""Attributes of modules that hold what is looked at by itself."""


def identity(model: nn.Module, files: Sequence[Path] = ()) -> dict[str, Any]:
    """What must be the same for two candidates to be one, as plain values.

    It has a digest of the parameters and buffers, of the modules with their settings, and of each
    source file: those of the modules' classes and of whatever of a user's own code these use. Of
    installed packages the versions stand for the code. What cannot be seen so is whatever a model
    asks for while it runs, such as environment variables.

    Args:
        model: The candidate.
        files: Those that a user named.
    """
    used = _code_of(model, files)
    return {
        "files": {path.name: file_sha256(path) for path in files},
        "parameters": _values(model),
        "modules": _structure(model),
        "code": {name: file_sha256(path) for name, path in sorted(used.items()) if path},
        "versions": {name: _version(name) for name, path in sorted(used.items()) if not path},
    }


def _values(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, value in sorted(state(model), key=lambda item: item[0]):
        tensor = plain(value).detach() if not unreadable(value) else None
        total.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        if tensor is not None:
            total.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _structure(model: nn.Module) -> str:
    total = hashlib.sha256()
    for path, part in model.named_modules():
        kind = type(part)
        total.update(f"{path} {kind.__module__}.{kind.__qualname__}\n".encode())
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for name, value in sorted(vars(part).items()):
            if name not in _TENSORS:
                total.update(f"{path}.{name} {_described(value)}\n".encode())
    if isinstance(model, torch.jit.ScriptModule):
        for content in _scripted(model):
            total.update(content)
    return total.hexdigest()


def _described(value: Any) -> str:
    """A setting as text that is the same in every process; of what has none its type."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_described, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_described(k)}: {_described(v)}' for k, v in value.items())}}}"
    if isinstance(value, torch.Tensor):
        return "tensor" if unreadable(value) else f"{value.dtype} {plain(value).tolist()}"
    if isinstance(value, partial):
        return f"{_described(value.func)} {_described(value.args)} {_described(value.keywords)}"
    if isinstance(value, FunctionType | type) or callable(value):
        held = getattr(value, "__closure__", None) or ()
        cells = [_described(cell.cell_contents) for cell in held if _is_simple(cell)]
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')} {cells}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is_simple(cell: Any) -> bool:
    """Whether a function holds a plain number or text, which may decide what it computes."""
    try:
        return cell.cell_contents is None or isinstance(
            cell.cell_contents, bool | int | float | str | tuple
        )
    except ValueError:
        return False


def _scripted(model: torch.jit.ScriptModule) -> Iterator[bytes]:
    """The code and constants of a script, which is all that it computes with but its values."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # That scripts are out of fashion is nothing that a user can act on here.
        warnings.simplefilter("ignore")
        torch.jit.save(model, buffer)
    with zipfile.ZipFile(buffer) as archive:
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if name.endswith(".py"):
                yield _MANGLED.sub(b"", archive.read(name))
            elif "constants" in parts:
                yield archive.read(name)


def _code_of(model: nn.Module, files: Sequence[Path]) -> dict[str, Path | None]:
    """By module of Python, or package, the source file of a user's own; None for an installed one.

    What a user's own modules name is followed, as far as that is a user's own too.
    """
    wanted = {path.resolve() for path in files}
    waiting = {type(module).__module__ for module in model.modules()}
    waiting |= {type(model).__module__}
    for name, loaded in list(sys.modules.items()):
        if (file := _file(loaded)) and Path(file).resolve() in wanted:
            waiting.add(name)
    found: dict[str, Path | None] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        module = sys.modules.get(name)
        file = _file(module)
        if module is None or file is None or in_project(file) is not None:
            continue
        if of_standard_library(file):
            continue
        if not of_user(file):
            found[name.partition(".")[0]] = None
            continue
        found[name] = Path(file)
        waiting |= _named_in(module) - seen
    # What computes whatever a candidate is stands in a manifest by itself.
    return {name: path for name, path in found.items() if name not in ("torch", "numpy")}


def _named_in(module: ModuleType) -> set[str]:
    """The modules that a module names, or from which it has something by name."""
    found = set()
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else None
        name = name or getattr(value, "__module__", None)
        if isinstance(name, str):
            found.add(name)
    return found


def _file(module: Any) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) and file.endswith(".py") else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
