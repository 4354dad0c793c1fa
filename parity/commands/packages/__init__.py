"""Published packages whose models can be candidates by name, one module for each package.

A module of this package is called as the package that it is of and has two things: ``check``, which
refuses a name that the package has no model for, and ``build``, which makes a model with the
checkpoint's values. Nothing else needs to know of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import warnings
from collections.abc import Callable
from typing import Any, Protocol, cast

from converter.mappings.keys import Naming
from converter.mappings.state_dicts import findings, to_naming
from efficientdet_spec import Cause, EfficientDetConfig, InputError, did_you_mean, summary
from parity.process.frames import first_line

Size = tuple[int, int]
"""Height and width of the images, in pixels."""


class Package(Protocol):
    """A module of this package."""

    def check(self, name: str) -> None:
        """Refuse a name that the package has no model for, or a package that is not there.

        Raises:
            InputError: Says which.
        """

    def build(self, name: str, config: EfficientDetConfig, faithful: Any, size: Size) -> Any:
        """The model in evaluation mode, with the faithful model's values.

        Args:
            name: Of the package's model.
            config: The checkpoint's model.
            faithful: The model with the checkpoint's parameters.
            size: Of the images.

        Raises:
            InputError: It is another model than the checkpoint's.
        """


def package_names() -> list[str]:
    """The packages whose models can be named."""
    return [found.name for found in pkgutil.iter_modules(__path__)]


def get_package(name: str) -> Package:
    """The module for a package.

    Args:
        name: Of the package.

    Raises:
        InputError: There is none.
    """
    known = package_names()
    if name not in known:
        raise InputError(
            f"No models of a package {name!r:.80} are known{did_you_mean(name, known)}, only of "
            f"{', '.join(known)}; give FILE.py:FUNCTION for any other model.",
            Cause.OPTION,
        )
    return cast(Package, importlib.import_module(f"{__name__}.{name}"))


def imported(name: str) -> Any:
    """A package that is somebody else's, imported.

    Args:
        name: As it is imported and installed.

    Raises:
        InputError: It is not installed, or its import fails.
    """
    if importlib.util.find_spec(name) is None:
        raise InputError(
            f"{name} is not installed; install it into this environment with pip install {name}.",
            Cause.MISSING_PACKAGE,
        )
    try:
        with warnings.catch_warnings():
            # What it and the packages behind it announce is nothing that a user can act on here.
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception as error:
        # Whatever an import runs may raise: a library that does not fit, a missing operator.
        raise InputError(
            f"{name} is installed, but importing it fails with {first_line(error)}; see that "
            f"python -c 'import {name}' works in this environment.",
            Cause.MISSING_PACKAGE,
        ) from error


def fill(
    model: Any,
    naming: Naming,
    config: EfficientDetConfig,
    faithful: Any,
    refused: Callable[[str], InputError],
) -> None:
    """Give a package's model the checkpoint's values; every parameter is accounted for.

    Args:
        model: The package's.
        naming: Of its state dict.
        config: The checkpoint's model.
        faithful: The model with the checkpoint's parameters.
        refused: Makes the error that says in what way the model is another one.

    Raises:
        InputError: It is built otherwise than the checkpoint's model.
    """
    import torch

    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = findings({key.name: key for key in naming.keys(config)}, shapes)
    if found:
        raise refused(summary(found))
    arrays = {name: value.cpu().numpy() for name, value in faithful.state_dict().items()}
    values = to_naming(naming, config, arrays)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
