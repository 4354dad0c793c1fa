"""The candidate of a comparison: converted, from a file, made by a function, or alive."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from converter.mappings.state_dicts import naming_of
from efficientdet_spec import Cause, EfficientDetConfig, InputError
from efficientdet_spec.forms import EAGER
from parity.commands.packages import Size, get_package, package_names
from parity.sides.naming import CandidateName, split_candidate


class Candidate:
    """What is compared, as a module for each size of images that there are.

    Most candidates are one module for all sizes. Where a candidate is made for one size, it is
    made anew for each. While this is open, runs may change a module's buffers, such as those of
    batch norms in training mode; behind it they have their values again.

    Args:
        make: Makes the module for images of a height and width.
        sized: Whether a module is for one size only.
    """

    def __init__(self, make: Callable[[Size], Any], *, sized: bool = False) -> None:
        self._make = make
        self._sized = sized
        self._made: dict[Size | None, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Candidate:
        return self

    def __exit__(self, *ended: object) -> None:
        self._stack.close()

    def at(self, size: Size) -> Any:
        """The module for images of this size.

        Args:
            size: Height and width in pixels.

        Raises:
            InputError: It cannot be made.
        """
        from parity.sides.pytorch.hooks import restored

        key = size if self._sized else None
        if key not in self._made:
            module = self._make(size)
            self._stack.enter_context(restored(module))
            self._made[key] = module
        return self._made[key]


def open_candidate(
    text: str | None,
    config: EfficientDetConfig,
    faithful: Any,
    place: Callable[[Any], Any],
    form: str = EAGER,
) -> Candidate:
    """What ``--candidate`` names.

    Args:
        text: A ``.pth`` file, FILE.py:FUNCTION or PACKAGE:MODEL; None for the converted model.
        config: The model.
        faithful: The converted model.
        place: Puts a module where it is to compute.
        form: In which the converted model computes.

    Raises:
        InputError: There is no such file, function or model, or it gives something else.
    """
    from parity.sides.pytorch.code import Maker

    named = CandidateName() if text is None else split_candidate(text)
    if named.package is not None and named.maker is not None:
        package, model = get_package(named.package), named.maker
        return Candidate(
            lambda size: place(package.build(model, config, faithful, size)), sized=True
        )
    if named.file is None:
        converted = place(faithful)
        # What is compared one node at a time should not keep what it needed at most.
        module = converted if form == EAGER else converted.optimized(keeps_memory=False)
        return Candidate(lambda size: module)
    if named.maker is None:
        loaded = place(_loaded(named.file, config))
        return Candidate(lambda size: loaded)
    maker = Maker(named.file, named.maker)
    return Candidate(lambda size: place(maker(faithful, size)), sized=maker.sized)


def _loaded(path: Path, config: EfficientDetConfig) -> Any:
    """The model of a ``.pth``; of another code base's state dict the error says whose it is."""
    from torch_model.checkpoint import load_same, plain_keys

    try:
        return load_same(path, config)
    except InputError as error:
        if error.cause is not Cause.FORMAT or not (naming := naming_of(_quietly(plain_keys, path))):
            raise
        by_name = ""
        if naming.name in package_names():
            by_name = f", or {naming.name}:MODEL for its own model with the checkpoint's values"
        raise InputError(
            f"{path} was not written by convert: it is a state dict with the keys of "
            f"{naming.project}, which does not hold the code that computes with it; give "
            f"FILE.py:FUNCTION, a function that makes the model and loads the file{by_name}.",
            Cause.FORMAT,
        ) from error


def _quietly(read: Callable[[Path], list[str]], path: Path) -> list[str]:
    """What a file holds; nothing where it cannot be read, which has been said already."""
    try:
        return read(path)
    except InputError:
        return []


def check_candidate(text: str | None) -> None:
    """Refuse what cannot be a candidate, before anything is read or computed.

    Args:
        text: As of ``--candidate``.

    Raises:
        InputError: There is no such file or package, or it is not said which of its functions or
            models is meant.
    """
    if text is None:
        return
    named = split_candidate(text)
    if named.package is not None and named.maker is not None:
        _check_package(named.package, named.maker)
        return
    path = named.file
    assert path is not None
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        what = "is no regular file" if path.exists() and not path.is_dir() else what
        raise InputError(
            f"{path} {what}; give a .pth that convert has written, FILE.py:FUNCTION, or "
            f"PACKAGE:MODEL of {' or '.join(package_names())}.",
            Cause.FILE,
        )
    if named.maker is not None:
        from parity.sides.pytorch.code import check_function

        check_function(path, named.maker)
    elif path.suffix == ".py":
        from parity.sides.pytorch.code import functions

        found = functions(path)
        has = f"it has {', '.join(found[:8])}" if found else "it has none"
        raise InputError(
            f"{path} is a Python file, but it is not said which of its functions returns the "
            f"model ({has}); write it as in {path}:{found[0] if found else 'build'}.",
            Cause.OPTION,
        )


def _check_package(package: str, model: str) -> None:
    file = Path(f"{package}.py")
    if package not in package_names() and file.is_file():
        raise InputError(
            f"{package}:{model} names a package, but there is a file {file} here; for a function "
            f"of it give {file}:{model}.",
            Cause.OPTION,
        )
    get_package(package).check(model)


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
