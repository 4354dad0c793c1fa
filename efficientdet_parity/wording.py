"""What a program is told of a mistake: its own arguments, not a command line's options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from efficientdet_spec import InputError
from parity.settings.option import Settings, settings_of

_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?![\w-])")


@contextmanager
def as_arguments(kind: type[Settings], renamed: Mapping[str, str] | None = None) -> Iterator[None]:
    """Within it, messages of mistakes name a function's arguments where they name options.

    Args:
        kind: The settings of the command that does the same.
        renamed: Fields of it whose argument has another name, with that name.
    """
    names = {setting.field: setting.field for setting in settings_of(kind)} | dict(renamed or {})
    try:
        yield
    except InputError as error:
        error.args = (_worded(str(error), names), *error.args[1:])
        raise


def _worded(text: str, names: Mapping[str, str]) -> str:
    def argument(found: re.Match[str]) -> str:
        return names.get(found[1].replace("-", "_"), found[0])

    return _OPTION.sub(argument, text)
