"""Certificates by which the machines of a cluster know each other, checked before any is met."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientdet_spec import Cause, InputError, read_regular

if TYPE_CHECKING:
    from distributed import Security

MAX_BYTES = 2**20
"""Largest file of certificates or of a key."""

_ADVICE = "give the files in PEM format that the cluster's scheduler and workers were started with"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM format that go together.

    Attributes:
        authority: Certificates of those who sign the certificates of a cluster's members.
        certificate: This member's.
        key: The key that it belongs to.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def checked(cls, authority: Path, certificate: Path, key: Path) -> Certificates:
        """Certificates with which this process can be a member of a cluster.

        Raises:
            InputError: A file cannot be read or is of another kind, the key is another
                certificate's, or the certificate does not hold before the authority.
        """
        found = cls(authority, certificate, key)
        for option, path in (("--tls-ca", authority), ("--tls-cert", certificate)):
            _require_certificate(option, path)
        _read("--tls-key", key)
        found._check_key()
        found._check_signature()
        return found

    def security(self) -> Security:
        """The same as Dask takes it, which then connects to nobody without such a certificate."""
        from distributed import Security

        more: dict[str, Any] = {}
        for role in ("client", "scheduler", "worker"):
            more |= {
                f"tls_{role}_cert": str(self.certificate.absolute()),
                f"tls_{role}_key": str(self.key.absolute()),
            }
        return Security(  # type: ignore[no-untyped-call]
            require_encryption=True, tls_ca_file=str(self.authority.absolute()), **more
        )

    def _check_key(self) -> None:
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        except _EncryptedKeyError:
            raise InputError(
                f"--tls-key {self.key} is encrypted, and nobody may be there to type its "
                f"passphrase; give a key without one, in a file that only you can read.",
                Cause.FORMAT,
            ) from None
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            what = f"is not the key of {self.certificate}" if mismatch else "holds no private key"
            raise InputError(
                f"--tls-key {self.key} {what} ({_reason(error)}); {_ADVICE}.", Cause.FORMAT
            ) from error

    def _check_signature(self) -> None:
        """See that the authority has signed the certificate, and that both hold today.

        By a handshake of this process with itself, in memory, which applies every rule of one.
        """
        there, here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(
            ssl.PROTOCOL_TLS_CLIENT
        )  # fmt: skip
        here.check_hostname = False
        here.verify_mode = ssl.CERT_NONE
        there.verify_mode = ssl.CERT_REQUIRED
        try:
            for context in (there, here):
                self._load(context)
            there.load_verify_locations(cafile=str(self.authority))
            _shake_hands(there, here)
        except ssl.SSLError as error:
            raise InputError(
                f"--tls-cert {self.certificate} does not hold before --tls-ca {self.authority} "
                f"({_reason(error)}); {_ADVICE}.",
                Cause.FORMAT,
            ) from error

    def _load(self, context: ssl.SSLContext) -> None:
        # Without one OpenSSL asks at the terminal.
        context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)


class _EncryptedKeyError(Exception):
    """A key cannot be used without a passphrase."""


def _no_passphrase() -> str:
    raise _EncryptedKeyError


_ROUNDS = 4
"""Turns after which a handshake has long ended; three at most are needed."""


def _read(option: str, path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise InputError(
            f"{option} {path} cannot be read ({error.strerror}); {_ADVICE}.", Cause.of(error)
        ) from error


def _require_certificate(option: str, path: Path) -> None:
    _read(option, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=str(path))
    except ssl.SSLError as error:
        raise InputError(
            f"{option} {path} holds no certificate ({_reason(error)}); {_ADVICE}.", Cause.FORMAT
        ) from error


def _shake_hands(there: ssl.SSLContext, here: ssl.SSLContext) -> None:
    """Have a server and a client meet.

    Raises:
        SSLError: One refuses the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = there.wrap_bio(to_server, to_client, server_side=True)
    client = here.wrap_bio(to_client, to_server)
    for side in (client, server) * _ROUNDS:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()


def _reason(error: ssl.SSLError) -> str:
    text = getattr(error, "verify_message", None) or error.reason or str(error)
    return str(text).replace("_", " ").lower()[:160]
