"""Downloads a file over HTTP, picking up where an interrupted attempt ended."""

import hashlib
import http.client
import json
import os
import re
import secrets
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO, BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

from efficientdet_spec import Cause, InputError, file_sha256, put_in_place

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAX_BYTES = 4 * 2**30  # The largest release is less than 1 GiB.

_CHUNK = 2**18
_BY_HAND = "download it elsewhere and pass the file instead"
# A server that is busy or restarting; any other error status stays the same when asked again.
_TEMPORARY_STATUS = frozenset({408, 429, 500, 502, 503, 504})


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    progress: Callable[[int, int | None], None] | None,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
    max_bytes: int = MAX_BYTES,
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
        timeout: Seconds without a single byte after which a connection counts as lost.
        attempts: How often to connect before giving up.
        pause: Seconds before the second attempt; doubles with each further one.
        max_bytes: The largest file that is accepted.

    Returns:
        The file's SHA-256 in hexadecimal.

    Raises:
        InputError: The address cannot be used, the download failed, the content is not what was
            expected, or the file cannot be written.
    """
    _check_url(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part_file(target) as (part, keep):
            fetch = _Fetch(url, part, keep, progress, timeout, max_bytes)
            fetch.run(attempts, pause)
            found = file_sha256(part)
            if sha256 is not None and found != sha256.lower():
                _remove(part)
                raise InputError(
                    f"{display_url(url)} has SHA-256 {found}, expected {sha256.lower()}: it was "
                    f"replaced or altered on its way and has been removed, so try again or "
                    f"{_BY_HAND} if you trust it",
                    Cause.NETWORK,
                )
            put_in_place(part, target)
            _remove(part)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); "
            "free some space or choose another folder",
            Cause.of(error),
        ) from error
    return found


def display_url(url: str) -> str:
    """Returns an address fit for messages: without password, query and control characters."""
    try:
        split = urlsplit(url)
        host = split.netloc.rpartition("@")[2]
        url = urlunsplit((split.scheme, host, split.path, "", ""))
    except ValueError:
        url = url.partition("?")[0].rpartition("@")[2]
    return url if url.isprintable() else ascii(url)


class _Lost(Exception):
    """An attempt ended early; another one may get further."""


@dataclass(frozen=True)
class _Version:
    """What a server says about the version of a file; decides whether parts fit together."""

    url_sha256: str
    etag: str | None
    modified: str | None
    total: int | None

    @classmethod
    def of(cls, url: str, headers: Message, total: int | None) -> "_Version":
        etag = headers.get("ETag")
        # A weak tag promises the same meaning, not the same bytes.
        strong = etag if etag and not etag.startswith("W/") else None
        # The address may carry an access token, so only its hash is stored.
        hashed = hashlib.sha256(url.encode()).hexdigest()
        return cls(hashed, strong, headers.get("Last-Modified"), total)

    @property
    def validator(self) -> str | None:
        return self.etag or self.modified


class _Fetch:
    """One download into one part file."""

    def __init__(
        self,
        url: str,
        part: Path,
        keep: bool,
        progress: Callable[[int, int | None], None] | None,
        timeout: float,
        max_bytes: int,
    ) -> None:
        self._url = url
        self._part = part
        self._notes = _notes(part)
        self._keep = keep
        self._progress = progress
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._opener = urllib.request.build_opener(_WebRedirects())

    def run(self, attempts: int, pause: float) -> None:
        """Connects until the part file is complete."""
        with self._part.open("ab") as output:
            for attempt in range(1, attempts + 1):
                try:
                    self._attempt(output)
                    return
                except _Lost as error:
                    if attempt == attempts:
                        raise self._failure(str(error), attempts, output.tell()) from error
                time.sleep(pause * 2 ** (attempt - 1))

    def _failure(self, reason: str, attempts: int, have: int) -> InputError:
        resume = ""
        if self._keep and have:
            resume = f"run the command again to resume after {have:,} bytes, or "
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        return InputError(
            f"{display_url(self._url)} could not be downloaded in {tries} ({reason}); "
            f"check the connection, then {resume or 'try again or '}{_BY_HAND}",
            Cause.NETWORK,
        )

    def _attempt(self, output: BinaryIO) -> None:
        """Gets what is missing, or raises _Lost."""
        have = output.seek(0, os.SEEK_END)
        known = self._known_version()
        if have and known is not None and known.total == have:
            return  # The process ended between the last byte and the renaming.
        headers = {"User-Agent": "efficientdet-parity", "Accept-Encoding": "identity"}
        validator = known.validator if known is not None and have else None
        if validator is not None:
            headers["Range"] = f"bytes={have}-"
            headers["If-Range"] = validator
        with closing(self._open(headers)) as response:
            if response.status == 206 and validator is not None:
                total = _range_total(response.headers, have)
                version = _Version.of(self._url, response.headers, total)
                # Some servers ignore If-Range and answer with a piece of a changed file.
                if total is None or version != known:
                    self._start_over(output)
                    raise _Lost("the file changed on the server")
            elif response.status == 200:
                self._start_over(output)
                have = 0
                total = _length(response.headers)
                version = _Version.of(self._url, response.headers, total)
                self._notes.write_text(json.dumps(asdict(version)), encoding="utf-8")
            else:
                self._start_over(output)
                raise _Lost(f"unexpected status {response.status}")
            self._check_size(total or 0)
            self._copy(response, output, have, total)

    def _copy(
        self, response: http.client.HTTPResponse, output: BinaryIO, have: int, total: int | None
    ) -> None:
        while True:
            if self._progress is not None:
                self._progress(have, total)
            # Asking for more than there is would wait for a server that keeps connections open.
            size = _CHUNK if total is None else min(_CHUNK, total - have)
            if not size:
                break
            try:
                chunk = response.read1(size)
            except (OSError, http.client.HTTPException) as error:
                raise _Lost(_reason(error)) from error
            if not chunk:
                break
            output.write(chunk)
            # The reason for a failure must not claim bytes that a full disk did not take.
            output.flush()
            have += len(chunk)
            self._check_size(have)
        if total is not None and have != total:
            raise _Lost(f"the connection ended after {have:,} of {total:,} bytes")

    def _open(self, headers: dict[str, str]) -> http.client.HTTPResponse:
        shown = display_url(self._url)
        try:
            request = urllib.request.Request(self._url, headers=headers)
            response = self._opener.open(request, timeout=self._timeout)
            return cast(http.client.HTTPResponse, response)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _TEMPORARY_STATUS:
                    raise _Lost(f"status {error.code}") from error
                if error.code == 416 and "Range" in headers:
                    self._part.write_bytes(b"")
                    raise _Lost("the file changed on the server") from error
                raise _refusal(shown, error.code) from error
        except urllib.error.URLError as error:
            cause = error.reason
            if isinstance(cause, socket.gaierror):
                raise InputError(
                    f"host {urlsplit(self._url).hostname} of {shown} was not found; check the "
                    f"address and the network connection, or {_BY_HAND}",
                    Cause.NETWORK,
                ) from error
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise InputError(
                    f"{shown} has no certificate that this machine trusts "
                    f"({cause.verify_message}); check the clock and the proxy, or {_BY_HAND}",
                    Cause.NETWORK,
                ) from error
            raise _Lost(_reason(cause)) from error
        except (http.client.InvalidURL, ValueError) as error:
            raise _unusable(shown) from error
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(_reason(error)) from error

    def _known_version(self) -> _Version | None:
        """Reads what an earlier attempt noted; anything odd there means starting over."""
        try:
            known = _Version(**json.loads(self._notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        hashed = hashlib.sha256(self._url.encode()).hexdigest()
        texts = [text for text in (known.etag, known.modified) if text is not None]
        # A line break in a header would let the notes write further headers.
        sound = all(isinstance(t, str) and t.isascii() and t.isprintable() for t in texts)
        return known if sound and known.url_sha256 == hashed else None

    def _start_over(self, output: BinaryIO) -> None:
        output.seek(0)
        output.truncate()

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            _remove(self._part)
            raise InputError(
                f"{display_url(self._url)} is larger than the {self._max_bytes:,} bytes that are "
                "accepted; check that the address is that of a checkpoint archive",
                Cause.NETWORK,
            )


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web addresses only: never to a local file or another protocol."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(newurl, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refusal(shown: str, status: int) -> InputError:
    if 300 <= status < 400:
        return InputError(
            f"{shown} redirects in a circle or to something that is not http or https; check "
            f"the address or {_BY_HAND}",
            Cause.NETWORK,
        )
    meaning = {
        401: "needs a login",
        403: "may not be read by everybody or does not exist",
        404: "does not exist",
        410: "no longer exists",
    }.get(status, "was refused by the server")
    return InputError(
        f"{shown} {meaning} (status {status}); check the address, or {_BY_HAND}", Cause.NETWORK
    )


def _unusable(shown: str) -> InputError:
    return InputError(
        f"{shown} is not an address that can be downloaded, expected http://HOST/PATH or "
        "https://HOST/PATH without user name and spaces; correct it",
        Cause.OPTION,
    )


def _check_url(url: str) -> None:
    try:
        split = urlsplit(url)
        # Reading the port is what checks it.
        usable = bool(split.hostname) and (split.port or 1) > 0 and "@" not in split.netloc
    except ValueError:
        usable = False
    # The standard library drops line breaks in silence and fails late on the others.
    plain = url.isascii() and url.isprintable() and " " not in url
    if not (usable and plain and split.scheme in ("http", "https")):
        raise _unusable(display_url(url))


def _reason(error: BaseException | str) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)[:200] or type(error).__name__


def _length(headers: Message) -> int | None:
    text = str(headers.get("Content-Length", ""))
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _range_total(headers: Message, start: int) -> int | None:
    """Returns the whole file's size if the answer continues at `start` to the file's end."""
    text = str(headers.get("Content-Range", ""))
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", text)
    if match is None:
        return None
    first, last, total = map(int, match.groups())
    return total if first == start and last == total - 1 else None


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


@contextmanager
def _part_file(target: Path) -> Iterator[tuple[Path, bool]]:
    """Gives the resumable part file, or a private one while another process has that.

    The lock is on a file of its own that is never renamed: a lock on the part itself would follow
    it to the target's name and let a waiting process write there.

    Yields:
        The part file's path, and whether it stays for a later call to resume.
    """
    with target.with_name(target.name + ".lock").open("ab") as lock:
        if _lock(lock):
            part = target.with_name(target.name + ".part")
            try:
                yield part, True
            finally:
                # A server that refused has given nothing to resume.
                if part.exists() and not part.stat().st_size:
                    _remove(part)
            return
        private = target.with_name(f"{target.name}.{secrets.token_hex(8)}.part")
        try:
            yield private, False
        finally:
            _remove(private)


def _lock(file: BinaryIO) -> bool:
    """Takes a lock that ends with the file's closing, at the latest with the process."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
