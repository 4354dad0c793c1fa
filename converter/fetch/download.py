"""Downloads a file over HTTP, picking up where an interrupted attempt ended."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from converter.fetch.addresses import BY_HAND, check_url, circle, display_url, redirected, unusable
from converter.fetch.connection import watched_opener
from converter.fetch.packings import MAX_ARCHIVE_BYTES
from converter.fetch.parts import part_file
from converter.fetch.versions import (
    Version,
    is_resumable,
    noted_version,
    range_total,
    remove,
    stated_length,
)
from converter.fetch.watchdog import LEAST_BYTES, WINDOW, Watchdog
from efficientdet_spec import Cause, InputError, file_sha256, printable, put_in_place

_CHUNK = 2**18
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A server that is busy or restarting; any other error status stays the same when asked again.
_TEMPORARY_STATUS = frozenset({408, 429, 500, 502, 503, 504})


class MismatchError(InputError):
    """What the server has is not the file that was expected."""

    DEFAULT = Cause.NETWORK


@dataclass(frozen=True)
class _Limits:
    """What is put up with.

    Attributes:
        timeout: Seconds without a single byte.
        window: See :data:`converter.fetch.watchdog.WINDOW`.
        least: See :data:`converter.fetch.watchdog.LEAST_BYTES`.
        max_bytes: The largest file that is accepted.
    """

    timeout: float
    window: float
    least: int
    max_bytes: int


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    progress: Callable[[int, int | None], None] | None,
    size: int | None = None,
    timeout: float = 30.0,
    window: float = WINDOW,
    least: int = LEAST_BYTES,
    attempts: int = 4,
    pause: float = 1.0,
    max_bytes: int = MAX_ARCHIVE_BYTES,
) -> str:
    """Downloads a file; the target appears only once it is complete and verified.

    The bytes collect in `<target>.part`, with `<target>.part.json` saying which version of the
    file they belong to. A later call resumes from them if the server can and the file is still
    the same. While one process downloads, another one that wants the same target works on a
    file of its own, which it cannot resume.

    Args:
        url: An http or https address.
        target: Where the file goes; an existing file is replaced.
        sha256: The expected SHA-256 in hexadecimal, or None if it is not known.
        progress: Called with the bytes so far and, where the server tells it, the total.
        size: The file's size in bytes, or None if it is not known; a server that has another is
            not asked for its bytes.
        timeout: Seconds without a single byte after which a connection counts as lost.
        window: Seconds after which a connection counts as lost that has brought next to nothing.
        least: How many bytes of the file that is.
        attempts: How often to connect before giving up.
        pause: Seconds before the second attempt; doubles with each further one.
        max_bytes: The largest file that is accepted.

    Returns:
        The file's SHA-256 in hexadecimal.

    Raises:
        MismatchError: The server has another file than the one that was expected.
        InputError: The address cannot be used, the download failed, or the file cannot be written.
    """
    check_url(url)
    limits = _Limits(timeout, window, least, max_bytes)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part_file(target) as (part, keep):
            _Fetch(url, part, keep, progress, limits, size, sha256).run(attempts, pause)
            found = file_sha256(part)
            if sha256 is not None and found != sha256.lower():
                remove(part)
                raise MismatchError(
                    f"{display_url(url)} has SHA-256 {found}, expected {sha256.lower()}: it was "
                    f"replaced or altered on its way and has been removed, so try again or "
                    f"{BY_HAND} if you trust it"
                )
            put_in_place(part, target)
            remove(part)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); "
            "free some space or choose another folder",
            Cause.of(error),
        ) from error
    return found


class _Lost(Exception):
    """An attempt ended early; another one may get further."""


class _Fetch:
    """One download into one part file."""

    def __init__(
        self,
        url: str,
        part: Path,
        keep: bool,
        progress: Callable[[int, int | None], None] | None,
        limits: _Limits,
        size: int | None,
        sha256: str | None,
    ) -> None:
        self._url = url
        self._part = part
        self._keep = keep
        self._progress = progress
        self._limits = limits
        self._size = size
        self._sha256 = sha256

    def run(self, attempts: int, pause: float) -> None:
        """Connects until the part file is complete."""
        with self._part.open("ab") as output:
            for attempt in range(1, attempts + 1):
                try:
                    with Watchdog(self._limits.window, self._limits.least) as watchdog:
                        self._attempt(output, watchdog)
                    return
                except _Lost as error:
                    if attempt == attempts:
                        raise self._failure(str(error), attempts, output.tell()) from error
                time.sleep(pause * 2 ** (attempt - 1))

    def _failure(self, reason: str, attempts: int, have: int) -> InputError:
        resume = ""
        if self._keep and have and is_resumable(self._part):
            resume = f"run the command again to resume after {have:,} bytes, or "
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        return InputError(
            f"{display_url(self._url)} could not be downloaded in {tries} ({reason}); "
            f"check the connection, then {resume or 'try again or '}{BY_HAND}",
            Cause.NETWORK,
        )

    def _attempt(self, output: BinaryIO, watchdog: Watchdog) -> None:
        """Gets what is missing, or raises _Lost."""
        have = output.seek(0, os.SEEK_END)
        known = noted_version(self._part, self._url)
        if have and known is not None and known.total == have:
            return  # The process ended between the last byte and the renaming.
        headers = {"User-Agent": "efficientdet-parity", "Accept-Encoding": "identity"}
        validator = known.validator if known is not None and have else None
        if validator is not None:
            headers["Range"] = f"bytes={have}-"
            headers["If-Range"] = validator
        with closing(self._open(headers, watchdog)) as response:
            if response.status == 206 and validator is not None:
                total = range_total(response.headers, have)
                version = Version.of(self._url, response.headers, total)
                # Some servers ignore If-Range and answer with a piece of a changed file.
                if total is None or version != known:
                    self._start_over(output)
                    raise _Lost("the file changed on the server")
            elif response.status == 200:
                self._start_over(output)
                have = 0
                total = stated_length(response.headers)
                version = Version.of(self._url, response.headers, total)
                version.note(self._part)
            else:
                self._start_over(output)
                raise _Lost(f"unexpected status {response.status}")
            self._check_total(total)
            self._copy(response, output, have, total, watchdog)

    def _copy(
        self,
        response: http.client.HTTPResponse,
        output: BinaryIO,
        have: int,
        total: int | None,
        watchdog: Watchdog,
    ) -> None:
        watchdog.restart()
        while True:
            if self._progress is not None:
                self._progress(have, total)
            # Asking for more than there is would wait for a server that keeps connections open.
            size = _CHUNK if total is None else min(_CHUNK, total - have)
            if not size:
                break
            try:
                with watchdog.waiting():
                    chunk = response.read1(size)
            except (OSError, http.client.HTTPException) as error:
                raise _Lost(_reason(error, watchdog)) from error
            if not chunk:
                break
            watchdog.arrived(len(chunk))
            output.write(chunk)
            # The reason for a failure must not claim bytes that a full disk did not take.
            output.flush()
            have += len(chunk)
            self._check_size(have)
        if watchdog.cut:
            # The end of what came is not the end of the file.
            raise _Lost(watchdog.reason)
        if total is not None and have != total:
            raise _Lost(f"the connection ended after {have:,} of {total:,} bytes")

    def _open(self, headers: dict[str, str], watchdog: Watchdog) -> http.client.HTTPResponse:
        """The answer at the end of all redirects."""
        opener, url = watched_opener(watchdog), self._url
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                return self._asked(opener, url, headers, watchdog)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _REDIRECTS:
                        raise self._refused(error.code, "Range" in headers) from error
                    url = redirected(url, error.headers.get("Location"), self._url)
        raise circle(display_url(self._url))

    def _asked(
        self,
        opener: urllib.request.OpenerDirector,
        url: str,
        headers: dict[str, str],
        watchdog: Watchdog,
    ) -> http.client.HTTPResponse:
        shown = display_url(self._url)
        try:
            request = urllib.request.Request(url, headers=headers)
            with watchdog.waiting():
                response = opener.open(request, timeout=self._limits.timeout)
            if watchdog.cut:
                # What came of the headers would be taken for all of them.
                response.close()
                raise _Lost(watchdog.reason)
            return cast(http.client.HTTPResponse, response)
        except urllib.error.HTTPError as error:
            if watchdog.cut:
                error.close()
                raise _Lost(watchdog.reason) from error
            raise
        except urllib.error.URLError as error:
            cause = error.reason
            if isinstance(cause, socket.gaierror):
                host = printable(urlsplit(url).hostname)
                raise InputError(
                    f"host {host} of {shown} was not found; check the "
                    f"address and the network connection, or {BY_HAND}",
                    Cause.NETWORK,
                ) from error
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise InputError(
                    f"{shown} has no certificate that this machine trusts "
                    f"({printable(cause.verify_message)}); check the clock and the proxy, or "
                    f"{BY_HAND}",
                    Cause.NETWORK,
                ) from error
            raise _Lost(_reason(cause, watchdog)) from error
        except (http.client.InvalidURL, ValueError) as error:
            raise unusable(shown) from error
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(_reason(error, watchdog)) from error

    def _refused(self, status: int, resuming: bool) -> Exception:
        """What a status other than success or a redirect means."""
        if status in _TEMPORARY_STATUS:
            return _Lost(f"status {status}")
        if status == 416 and resuming:
            self._part.write_bytes(b"")
            return _Lost("the file changed on the server")
        return _refusal(display_url(self._url), status)

    def _start_over(self, output: BinaryIO) -> None:
        output.seek(0)
        output.truncate()

    def _check_total(self, total: int | None) -> None:
        """Refuses a file of another size than the known one, before its bytes come."""
        if total is not None and self._size not in (None, total):
            raise self._of_another_size(f"{total:,}")
        self._check_size(total or 0)

    def _of_another_size(self, found: str) -> MismatchError:
        remove(self._part)
        digest = f", so that its SHA-256 is not the expected {self._sha256}"
        return MismatchError(
            f"{display_url(self._url)} has {found} bytes, expected {self._size:,}"
            f"{digest if self._sha256 else ''}: it is another file, so try again or {BY_HAND} "
            f"if you trust it"
        )

    def _check_size(self, size: int) -> None:
        if self._size is not None and size > self._size:
            # Its server does not say how large it is.
            raise self._of_another_size(f"more than {self._size:,}")
        if size > self._limits.max_bytes:
            remove(self._part)
            raise InputError(
                f"{display_url(self._url)} is larger than the {self._limits.max_bytes:,} bytes "
                "that are accepted; check that the address is that of a checkpoint archive",
                Cause.NETWORK,
            )


def _refusal(shown: str, status: int) -> InputError:
    if 300 <= status < 400:
        return circle(shown)
    meaning = {
        401: "needs a login",
        403: "may not be read by everybody or does not exist",
        404: "does not exist",
        410: "no longer exists",
    }.get(status, "was refused by the server")
    return InputError(
        f"{shown} {meaning} (status {status}); check the address, or {BY_HAND}", Cause.NETWORK
    )


def _reason(error: BaseException | str, watchdog: Watchdog) -> str:
    """Why an attempt ended, printable: it may be in the words of a server."""
    if watchdog.cut:
        return watchdog.reason
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    return printable(str(error).strip()[:200]) or type(error).__name__
