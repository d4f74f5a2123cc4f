from __future__ import annotations

import logging
import os
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from sidecar.adapters.upstream.tls import ClientTls, make_context
from sidecar.core.config import UpstreamTls

if TYPE_CHECKING:
    from pathlib import Path


class Files:
    """An authority and a client's certificate on disk."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self._writes = 0
        self.renew()
        self.settings = UpstreamTls(ca_file=str(self.ca), cert_file=str(self.cert), key_file=str(self.key))

    def renew(self) -> None:
        """Another authority signs another certificate."""
        authority = trustme.CA()
        identity = authority.issue_cert("client.example")
        self._write(self.ca, authority.cert_pem.bytes())
        self._write(self.cert, identity.cert_chain_pems[0].bytes())
        self._write(self.key, identity.private_key_pem.bytes())

    def spoil(self) -> None:
        self._write(self.cert, b"no certificate")

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self._writes += 1
        os.utime(path, (self._writes, self._writes))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_an_upstream_is_verified_unless_told_otherwise(files: Files) -> None:
    strict = make_context(files.settings)
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert strict.cert_store_stats()["x509_ca"] == 1
    lax = make_context(UpstreamTls(verify=False))
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_files_that_cannot_be_used_are_told_at_once(files: Files, name: str) -> None:
    getattr(files, name).unlink()
    with pytest.raises(FileNotFoundError):
        ClientTls(files.settings)


def test_files_that_stay_make_one_context(files: Files) -> None:
    tls = ClientTls(files.settings)
    assert tls() is tls()
    system = ClientTls(UpstreamTls())
    assert system() is system()


def test_changed_files_make_another_context(files: Files) -> None:
    tls = ClientTls(files.settings)
    before = tls()
    files.renew()
    after = tls()
    assert after is not before
    assert after.get_ca_certs() != before.get_ca_certs()
    assert tls() is after


def test_changed_files_that_cannot_be_used_leave_the_last_good_context_and_say_so_once(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ClientTls(files.settings)
    good = tls()
    files.spoil()
    with caplog.at_level(logging.WARNING):
        assert [tls() is good for _ in range(3)] == [True, True, True]
    assert len(caplog.records) == 1
    files.renew()
    assert tls() is not good


def test_files_that_vanish_leave_the_last_good_context(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    tls = ClientTls(files.settings)
    good = tls()
    files.cert.unlink()
    with caplog.at_level(logging.WARNING):
        assert tls() is good
    assert len(caplog.records) == 1
