"""Candidates that are given as code: a Python file and the function in it that makes the model."""

from __future__ import annotations

import ast
import copy
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from efficientdet_spec import Cause, InputError, read_regular
from parity.process.frames import first_line, innermost, of_user

Size = tuple[int, int]
"""Height and width of the images, in pixels."""

SIZE = "size"
"""An argument of this name is given the size; one of any other name the faithful model."""

MAX_SOURCE_BYTES = 2**24
"""Largest Python file of a candidate."""


class Maker:
    """A function or class in a Python file that makes the candidate.

    The file is run, once, with the rights of whoever runs this program. Its folder can be imported
    from.

    Args:
        path: The file.
        function: Name of the function or class.

    Attributes:
        source: What it is called in sentences.
        sized: Whether it makes a model for one size of images.

    Raises:
        InputError: There is no such file or function, importing it fails, or it needs arguments
            that nobody can give it.
    """

    def __init__(self, path: Path, function: str) -> None:
        self._maker = find_function(path, function)
        self.source = f"{path}:{function}"
        self._needed = _needed(self._maker)
        _require_known(self.source, self._needed)
        self.sized = any(item.name == SIZE for item in self._needed)

    def __call__(self, faithful: nn.Module, size: Size) -> nn.Module:
        """The model, for images of a size.

        A class is put in evaluation mode: unlike a function, it has no place to say so.

        Args:
            faithful: The model with the checkpoint's parameters, of which a copy is handed over.
            size: Height and width in pixels.

        Raises:
            InputError: It fails, or returns something else.
        """
        given: list[Any] = []
        named: dict[str, Any] = {}
        for item in self._needed:
            value = size if item.name == SIZE else copy.deepcopy(faithful)
            if item.kind is item.KEYWORD_ONLY:
                named[item.name] = value
            else:
                given.append(value)
        try:
            model = self._maker(*given, **named)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            source = f"{self.source}{self._called(error)}"
            raise InputError(_failed(source, error), Cause.CANDIDATE) from error
        model = checked(model, f"What {self.source} returns")
        return model.eval() if isinstance(self._maker, type) else model

    def _called(self, error: BaseException) -> str:
        """With what it was called, where that may be why it fails."""
        models = [item.name for item in self._needed if item.name != SIZE]
        if not models or not isinstance(error, TypeError | AttributeError):
            return ""
        return f", called with the faithful model as its argument {models[0]!r},"


def _needed(maker: Callable[..., Any]) -> list[inspect.Parameter]:
    """The arguments without which something cannot be called."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):
        # Some that are written in C do not tell.
        return []
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        item for item in parameters if item.default is item.empty and item.kind not in open_ended
    ]


def _require_known(source: str, needed: Sequence[inspect.Parameter]) -> None:
    others = [item.name for item in needed if item.name != SIZE]
    if len(others) > 1:
        raise InputError(
            f"{source} needs the arguments {', '.join(others)}, but a candidate is made with at "
            f"most two, the faithful model and {SIZE!r}, the images' (height, width); give a "
            f"function that calls it with the others.",
            Cause.CANDIDATE,
        )


def checked(model: Any, what: str) -> nn.Module:
    """A candidate, where it is one.

    Args:
        model: What may be a candidate.
        what: What it is, to begin a sentence with.

    Raises:
        InputError: It is no module, or has no values.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{what} is of type {type(model).__name__}; it must be a torch.nn.Module that takes "
            f"[N, 3, H, W] images and returns class and box outputs, one NCHW tensor per level.",
            Cause.CANDIDATE,
        )
    empty = next((name for name, value in _values(model) if value.is_meta), None)
    if empty is not None:
        raise InputError(
            f"{what} is a model whose {empty} is on the meta device, which holds no values; give "
            f"one that is on the CPU with its values loaded.",
            Cause.CANDIDATE,
        )
    return model


def _values(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters and buffers."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def where(error: BaseException) -> str:
    """The line of a user's own code that an exception comes from.

    It is the innermost one that lies neither in this project, nor in Python's library, nor in an
    installed package: the call there is what its author can look at.

    Args:
        error: The exception, which has been raised.

    Returns:
        File, line and function, such as ``port.py:17 (in forward)``; empty where none is known.
    """
    if isinstance(error, SyntaxError) and error.filename and of_user(error.filename):
        return f"{shown(error.filename)}:{error.lineno}"
    frame = innermost(error, of_user)
    if frame is None:
        return ""
    inside = "" if frame.name == "<module>" else f" (in {frame.name})"
    return f"{shown(frame.filename)}:{frame.lineno}{inside}"


def failure(error: BaseException) -> str:
    """What went wrong in a candidate and where, to follow "fails with" in a sentence."""
    if isinstance(error, SyntaxError):
        said = f"{type(error).__name__}: {error.msg:.200}"
    else:
        said = first_line(error)
    place = where(error)
    return f"{said} at {place}" if place else said


def shown(filename: str) -> str:
    """A file relative to the current folder where it lies in it."""
    try:
        relative = os.path.relpath(filename)
    except (OSError, ValueError):
        return filename
    return filename if relative.startswith(os.pardir) else relative


def functions(path: Path) -> list[str]:
    """The names of the functions and classes of a Python file, which is not run.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, or is no Python.
    """
    makers = ast.FunctionDef | ast.ClassDef
    body = _parsed(path).body
    return [node.name for node in body if isinstance(node, makers) and node.name[0] != "_"]


def check_function(path: Path, function: str) -> None:
    """Refuse a function that a Python file cannot have, before anything is run.

    Args:
        path: The file.
        function: Name of the function.

    Raises:
        InputError: The name occurs nowhere in the file, or the file is no Python.
    """
    found = {part for node in ast.walk(_parsed(path)) for part in _names(node)}
    # What is imported with a star, or made by code, has a name that stands nowhere.
    if function not in found and not found & {"*", "globals", "setattr", "exec", "__getattr__"}:
        raise _no_function(path, function, functions(path))


def _names(node: ast.AST) -> Iterator[str]:
    """The names that a piece of Python speaks of."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield node.asname or node.name


def _no_function(path: Path, function: str, names: Sequence[str]) -> InputError:
    has = f"it has {', '.join(names[:5])}" if names else "it has none"
    return InputError(f"{path} has no function {function!r}; {has}.", Cause.CANDIDATE)


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(read_regular(path, MAX_SOURCE_BYTES))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as Python ({first_line(error)}); give a Python file.",
            Cause.of(error),
        ) from error


def find_function(path: Path, function: str) -> Callable[..., Any]:
    """A function of a Python file, which is run, once, with the rights of whoever runs this.

    Its folder can be imported from.

    Args:
        path: The file.
        function: Name of the function or class.

    Raises:
        InputError: There is none, or importing the file fails.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise InputError(
            f"{path} {what}; give the path of a Python file and a function.", Cause.FILE
        )
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"candidate_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(
            f"{path} cannot be imported; give a Python file, which ends in .py.", Cause.FILE
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        found = getattr(module, function, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise InputError(_failed(str(path), error), Cause.CANDIDATE) from error
    if not callable(found):
        found_here = vars(module).items()
        names = [key for key, value in found_here if inspect.isfunction(value) and key[0] != "_"]
        raise _no_function(path, function, names)
    return found  # type: ignore[no-any-return]


def _failed(source: str, error: BaseException) -> str:
    return f"{source} fails with {failure(error)}; run it by itself and correct it"
