"""Texts from elsewhere: names in files, servers' answers, what other people's code says."""

from __future__ import annotations


def printable_lines(text: str) -> str:
    """As :func:`printable` of a text that has lines of its own."""
    return "\n".join(printable(line) for line in text.split("\n"))


def printable(text: object) -> str:
    r"""A text in which every character that a terminal would obey stands as its escape sequence.

    So a name from a file can neither move the cursor nor begin a line of its own: a line break
    becomes ``\n``, an escape character ``\x1b``, and what turns the direction of writing
    ``\u202e``. Whatever can be printed stays, in any script.

    Args:
        text: The text, or what has one.
    """
    found = str(text)
    if found.isprintable():
        return found
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode()
        for letter in found
    )


def shortened(text: str, letters: int) -> str:
    """A text without its middle where it is longer than there is room for.

    Args:
        text: The text.
        letters: The most that it may have, at least 8.
    """
    if len(text) <= letters:
        return text
    end = (letters - 3) * 2 // 5
    return f"{text[: letters - 3 - end]}...{text[-end:]}"
