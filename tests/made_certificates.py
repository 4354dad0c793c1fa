"""Certificates of clusters, made with the command openssl."""

import shutil
import subprocess
from types import SimpleNamespace

import pytest


class Authority:
    """Signs certificates of a cluster's members; its own is ``ca``.

    Args:
        folder: For all files; made.
    """

    def __init__(self, folder):
        if shutil.which("openssl") is None:
            pytest.skip("the command openssl, which makes certificates, is not installed")
        folder.mkdir()
        self.folder, self.ca, self._key = folder, folder / "ca.pem", folder / "ca.key"
        _openssl(
            "req", "-x509", *_new(self._key), "-out", self.ca, "-days", 2,
            "-subj", f"/CN={folder.name}",
        )  # fmt: skip

    def member(self, name, days=1):
        """The files of a member: ``ca``, ``cert`` and ``key``.

        Args:
            name: Of the files.
            days: How long its certificate holds.
        """
        cert, key, asked = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        _openssl("req", *_new(key), "-out", asked, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", asked, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
            "-out", cert, "-days", days,
        )  # fmt: skip
        return SimpleNamespace(ca=self.ca, cert=cert, key=key)


def _new(key):
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    return (*curve, "-nodes", "-keyout", key)


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
