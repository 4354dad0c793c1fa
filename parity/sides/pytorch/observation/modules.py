"""Which of a candidate's modules is running, and at which line of its code."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn

from parity.process.frames import in_project, of_standard_library
from parity.sides.pytorch.code import shown

_TORCH = os.path.realpath(os.path.dirname(torch.__file__)) + os.sep

_DEPTH = 60
"""Frames of the stack that are looked through for the candidate's own code."""


class Watcher(Protocol):
    """Is told of the calls of modules."""

    def entered(self) -> int:
        """A module is about to run; returns a mark that :meth:`left` is given."""

    def left(self, path: str, mark: int, output: Any) -> None:
        """A module has run.

        Args:
            path: The module's.
            mark: What :meth:`entered` returned before it.
            output: What it returns.
        """


class Running:
    """The path of the innermost module that is running.

    Attributes:
        in_threads: Whether modules have run in other threads than the one that watches, where
            their operations are not seen.
    """

    in_threads = False

    def __init__(self) -> None:
        self._stack: list[tuple[str, int]] = []

    @property
    def path(self) -> str:
        """Its path; empty for the model itself."""
        return self._stack[-1][0] if self._stack else ""

    @contextmanager
    def watched(self, model: nn.Module, watcher: Watcher | None = None) -> Iterator[None]:
        """Within it the path follows the model's modules.

        Args:
            model: The model.
            watcher: Is told of the calls of its modules.
        """
        handles: list[Any] = []
        thread = threading.get_ident()

        def enter(path: str) -> Any:
            def hook(module: nn.Module, inputs: Any) -> None:
                if threading.get_ident() != thread:
                    self.in_threads = True
                    return
                self._stack.append((path, watcher.entered() if watcher else 0))

            return hook

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._stack and threading.get_ident() == thread:
                path, mark = self._stack.pop()
                if watcher:
                    watcher.left(path, mark, output)

        for path, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                # Its parts are no modules of Python's, and are not called as such.
                continue
            handles.append(module.register_forward_pre_hook(enter(path)))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def place() -> str:
    """The innermost line of the candidate's own code that is running; empty where there is none."""
    frame = sys._getframe(1)
    for _ in range(_DEPTH):
        if _of_candidate(frame.f_code.co_filename):
            where = f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
            return f"{where} (in {frame.f_code.co_name})"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""


@lru_cache(maxsize=4096)
def _of_candidate(filename: str) -> bool:
    """Whether a file belongs neither to this project, nor to Python, nor to PyTorch."""
    if filename.startswith("<") or in_project(filename) or of_standard_library(filename):
        return False
    return not os.path.realpath(filename).startswith(_TORCH)


@lru_cache(maxsize=4096)
def _short(filename: str) -> str:
    """A file as people call it: of an installed package, relative to where packages are."""
    for mark in ("site-packages", "dist-packages"):
        _, found, rest = filename.rpartition(f"{os.sep}{mark}{os.sep}")
        if found:
            return rest
    return shown(filename)
