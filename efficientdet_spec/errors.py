"""What a user can do something about."""

from __future__ import annotations


class InputError(ValueError):
    """A user's mistake: a file, name or option that cannot be used.

    The message is one sentence that names the thing, what was found, what was
    expected and what to do. Command lines print it and exit with code 2.
    """
