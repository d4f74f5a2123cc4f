from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from sidecar.adapters.config_file import load_text

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.config.load import Loaded

KEY_BLOCK = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFNTBfBgkqhkiG9w0BBQ0w\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, the key of another, authorities, and files that are nothing of it."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    own, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    (folder / "chain").write_bytes(b"".join(blob.bytes() for blob in own.cert_chain_pems))
    (folder / "key").write_bytes(own.private_key_pem.bytes())
    (folder / "other").write_bytes(other.private_key_pem.bytes())
    (folder / "ca").write_bytes(authority.cert_pem.bytes())
    (folder / "garbage").write_bytes(b"-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n")
    (folder / "locked").write_bytes(KEY_BLOCK)
    (folder / "empty").touch()
    return folder


def proxy(pem: Path, **files: str) -> Loaded:
    lines = "".join(f"    {setting}: {pem / name}\n" for setting, name in files.items())
    return load_text(f"upstreams: {{a: {{url: http://a}}}}\nproxy:\n  tls:\n{lines}", {})


def upstream(pem: Path, **files: str) -> Loaded:
    lines = "".join(f"      {setting}: {pem / name}\n" for setting, name in files.items())
    return load_text(f"upstreams:\n  a:\n    url: https://a\n    tls:\n{lines}", {})


def test_files_that_fit_are_right(pem: Path) -> None:
    assert proxy(pem, cert_file="chain", key_file="key", client_ca_file="ca").errors == ()
    assert upstream(pem, cert_file="chain", key_file="key", ca_file="ca").errors == ()


FAULTS = [
    ("garbage", "key", "cert_file", "holds no certificate"),
    ("key", "key", "cert_file", "holds no certificate"),
    ("chain", "garbage", "key_file", "holds no private key that can be read without a password"),
    ("chain", "locked", "key_file", "holds no private key that can be read without a password"),
    ("chain", "other", "key_file", "is not the key of the certificate"),
    ("chain", "empty", "key_file", "is empty"),
    ("nowhere", "key", "cert_file", "cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("cert", "key", "setting", "words"), FAULTS)
def test_each_fault_is_named_at_its_line(pem: Path, cert: str, key: str, setting: str, words: str) -> None:
    line = {"cert_file": 0, "key_file": 1}[setting]
    name = {"cert_file": cert, "key_file": key}[setting]
    for loaded, first in (
        (proxy(pem, cert_file=cert, key_file=key), 4),
        (upstream(pem, cert_file=cert, key_file=key), 5),
    ):
        (error,) = loaded.errors
        assert (error.line, error.message) == (first + line, f"{setting}: {str(pem / name)!r} {words}")
        assert loaded.config is None


@pytest.mark.parametrize("name", ["garbage", "key"])
def test_authorities_that_are_none_are_named_at_their_line(pem: Path, name: str) -> None:
    (error,) = upstream(pem, ca_file=name).errors
    assert (error.line, error.message) == (5, f"ca_file: {str(pem / name)!r} holds no certificate")
    (error,) = proxy(pem, cert_file="chain", key_file="key", client_ca_file=name).errors
    assert (error.line, error.message) == (6, f"client_ca_file: {str(pem / name)!r} holds no certificate")


def test_who_does_not_look_at_files_does_not_look_into_them(pem: Path) -> None:
    text = f"upstreams: {{a: {{url: https://a, tls: {{ca_file: {pem / 'garbage'}}}}}}}\n"
    assert load_text(text, {}, look_at_files=False).errors == ()
