"""Web addresses: which can be downloaded, how they are shown, where a redirect leads."""

from __future__ import annotations

import string
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from efficientdet_spec import Cause, InputError, printable

BY_HAND = "download it elsewhere and pass the file instead"
"""What can be done where this program cannot download something."""


def display_url(url: str) -> str:
    """Returns an address fit for messages: without password, query and control characters."""
    try:
        split = urlsplit(url)
        host = split.netloc.rpartition("@")[2]
        url = urlunsplit((split.scheme, host, split.path, "", ""))
    except ValueError:
        url = url.partition("?")[0].rpartition("@")[2]
    return printable(url)


def check_url(url: str) -> None:
    """Refuses what is no address of a file on the web.

    Raises:
        InputError: Says what is expected.
    """
    if not _is_usable(url):
        raise unusable(display_url(url))


def unusable(shown: str) -> InputError:
    """What is said of an address that cannot be downloaded.

    Args:
        shown: The address as of :func:`display_url`.
    """
    return InputError(
        f"{shown} is not an address that can be downloaded, expected http://HOST/PATH or "
        "https://HOST/PATH without user name and spaces; correct it",
        Cause.OPTION,
    )


def _is_usable(url: str) -> bool:
    try:
        split = urlsplit(url)
        # Reading the port is what checks it.
        usable = bool(split.hostname) and (split.port or 1) > 0 and "@" not in split.netloc
    except ValueError:
        return False
    # The standard library drops line breaks in silence and fails late on the others.
    plain = url.isascii() and url.isprintable() and " " not in url
    return usable and plain and split.scheme in ("http", "https")


def redirected(url: str, location: str | None, start: str) -> str:
    """The address that a redirect leads to.

    Args:
        url: The address that was asked for.
        location: What its server says.
        start: The address that the user gave, for messages.

    Raises:
        InputError: It leads nowhere, to another protocol, or from https to http.
    """
    shown = display_url(start)
    try:
        # Servers send spaces and letters of any script, which belong in no request.
        plain = quote(location or "", safe=string.punctuation, encoding="latin-1", errors="replace")
        found = urljoin(url, plain)
    except ValueError:
        found = ""
    if not location or not _is_usable(found):
        raise circle(shown)
    if urlsplit(url).scheme == "https" and urlsplit(found).scheme == "http":
        raise InputError(
            f"{shown} redirects from https to {display_url(found)}, where anybody on the way could "
            f"read and change it; pass that address if you trust the way there, or {BY_HAND}",
            Cause.NETWORK,
        )
    return found


def circle(shown: str) -> InputError:
    """What is said of redirects that do not lead to a file.

    Args:
        shown: The first address as of :func:`display_url`.
    """
    return InputError(
        f"{shown} redirects in a circle or to something that is not http or https; check "
        f"the address or {BY_HAND}",
        Cause.NETWORK,
    )
