"""Certificates that cannot be used are refused in one sentence, before any connection."""

import os
import subprocess
from types import SimpleNamespace

import pytest
from made_certificates import Authority

from efficientdet_spec import InputError
from parity.detections.certificates import Certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "a")


@pytest.fixture(scope="module")
def member(authority):
    return authority.member("member")


def refused(member, **changes):
    files = SimpleNamespace(**{**vars(member), **changes})
    with pytest.raises(InputError) as caught:
        Certificates.checked(files.ca, files.cert, files.key)
    text = str(caught.value)
    assert len(text) < 1000 and text.isprintable() and text.endswith(".") and "\n" not in text
    return text


def test_files_that_go_together(member):
    found = Certificates.checked(member.ca, member.cert, member.key)
    assert found == Certificates(member.ca, member.cert, member.key)
    security = pytest.importorskip("distributed") and found.security()
    assert security.require_encryption and security.tls_client_key == str(member.key)
    assert security.get_connection_args("client")["ssl_context"].verify_mode.name == "CERT_REQUIRED"


def test_files_that_are_missing_or_no_files(member, tmp_path):
    assert "No such file" in refused(member, ca=tmp_path / "none")
    assert "it is a folder" in refused(member, cert=tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "it is a named pipe" in refused(member, key=pipe)
    large = tmp_path / "large"
    large.write_bytes(b"x" * 2_000_000)
    assert "2,000,000 bytes" in refused(member, ca=large)


def test_files_of_another_kind(member, tmp_path):
    text = tmp_path / "text"
    text.write_text("Hello \x1b[2J\n")
    assert "--tls-ca" in (found := refused(member, ca=text)) and "no certificate" in found
    assert "--tls-cert" in (found := refused(member, cert=text)) and "no certificate" in found
    assert f"--tls-key {text} holds no private key" in refused(member, key=text)
    assert f"--tls-cert {member.key} holds no certificate" in refused(member, cert=member.key)


def test_the_key_of_another(authority, member):
    other = authority.member("other")
    assert f"other.key is not the key of {member.cert}" in refused(member, key=other.key)


def test_a_key_with_a_passphrase(member, tmp_path):
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", member.key, "-aes256", "-passout", "pass:abc", "-out", locked],
        check=True,
    )
    assert f"--tls-key {locked} is encrypted" in refused(member, key=locked)


def test_another_authority(member, tmp_path):
    other = Authority(tmp_path / "b")
    assert "does not hold before --tls-ca" in (found := refused(member, ca=other.ca))
    assert "issuer certificate" in found


def test_one_that_holds_no_longer(authority):
    past = authority.member("past", days=-1)
    assert "(certificate has expired)" in refused(past)
