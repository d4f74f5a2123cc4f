from __future__ import annotations

import errno
import socket
import ssl

import pytest

from sidecar.adapters.upstream.failure import connect_failure
from sidecar.pipeline.errors import (
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    DnsFailed,
    PoolExhausted,
    ProxyError,
    TlsFailed,
)

WHERE = "http://10.0.0.1:80"


@pytest.mark.parametrize(
    ("raised", "meaning"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), DnsFailed),
        (UnicodeError("label too long"), DnsFailed),
        (ssl.SSLError(1, "wrong version number"), TlsFailed),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), TlsFailed),
        (TimeoutError(), ConnectTimeout),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), ConnectTimeout),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ConnectionLost),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ConnectionLost),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ConnectionRefused),
        (OSError(errno.EHOSTUNREACH, "No route to host"), ConnectionRefused),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), ConnectionRefused),
        (OSError(errno.EMFILE, "Too many open files"), PoolExhausted),
        (OSError(errno.ENFILE, "Too many open files in system"), PoolExhausted),
        (OSError(errno.ENOBUFS, "No buffer space available"), PoolExhausted),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), PoolExhausted),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), PoolExhausted),
    ],
    ids=repr,
)
def test_each_failure_to_connect_has_its_meaning(raised: Exception, meaning: type[ProxyError]) -> None:
    assert type(connect_failure(raised, WHERE)) is meaning


@pytest.mark.parametrize(
    ("raised", "detail"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), f"{WHERE}: No route to host"),
        (UnicodeError("label too long"), f"{WHERE}: label too long"),
        (TimeoutError(), WHERE),
        (OSError(errno.EMFILE, "Too many open files"), f"no connection to {WHERE}: Too many open files"),
    ],
    ids=["of the system", "of a library", "without words", "our own limit"],
)
def test_the_detail_says_where_and_why(raised: Exception, detail: str) -> None:
    assert connect_failure(raised, WHERE).detail == detail


def test_a_certificate_that_is_not_trusted_says_why() -> None:
    raised = ssl.SSLCertVerificationError()
    raised.strerror = None
    raised.verify_message = "self-signed certificate"
    assert connect_failure(raised, WHERE).detail == f"{WHERE}: self-signed certificate"


def test_a_defect_is_no_failure_to_connect() -> None:
    with pytest.raises(ZeroDivisionError):
        connect_failure(ZeroDivisionError(), WHERE)
