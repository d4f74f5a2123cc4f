"""Which fields speak of a scheme that authenticates the connection (RFC 4559, RFC 9110 §11)."""

from __future__ import annotations

import pytest

from sidecar.core.http.connection_auth import challenges_connection, sends_connection_credentials
from sidecar.core.http.heads import Headers

CHALLENGES: list[tuple[list[bytes], bool]] = [
    ([b"NTLM"], True),
    ([b"Negotiate"], True),
    ([b"Kerberos"], True),
    ([b"Nego2"], True),
    ([b"ntlm"], True),
    ([b"nEGOTIATE"], True),
    ([b"NTLM TlRMTVNTUAACAAAA+/=="], True),
    ([b"Negotiate oYG2MIGzoAMKAQChCwYJKoZIgvcSAQIC="], True),
    ([b"NTLM\tTlRM"], True),
    ([b'Basic realm="x", NTLM'], True),
    ([b'Basic realm="x",NTLM'], True),
    ([b'NTLM, Basic realm="x"'], True),
    ([b"NTLM,Negotiate"], True),
    ([b", ,\t Negotiate"], True),
    ([b'Digest realm="a, b", nonce=abc, qop="auth", Negotiate abc=='], True),
    ([b"Bearer abc==, NTLM"], True),
    ([b'Basic realm="x"', b"NTLM"], True),
    ([b"Negotiate", b"NTLM", b'Basic realm="x"'], True),
    ([b"", b"Negotiate"], True),
    ([b'Basic realm="never closed, NTLM'], True),
    ([b'Basic realm="a \\" b", NTLM'], True),
    ([b"NTLM;weird"], True),
    ([b'Basic realm="' + b'\\"' * 30_000 + b", NTLM"], True),
    ([b", " * 30_000 + b"NTLM"], True),
    ([], False),
    ([b""], False),
    ([b'Basic realm="x"'], False),
    ([b"Bearer"], False),
    ([b'Basic realm="NTLM"'], False),
    ([b'Basic realm="log in, NTLM users"'], False),
    ([b'Basic realm="a \\", NTLM"'], False),
    ([b"Basic realm=NTLM"], False),
    ([b"Bearer ntlm"], False),
    ([b"Bearer a/NTLM/b"], False),
    ([b"NTLMv2"], False),
    ([b"X-NTLM"], False),
    ([b"Digest a=b, ntlm=c"], False),
    ([b"NegotiateX abc"], False),
]  # fmt: skip


def names(cases: list[tuple[list[bytes], bool]]) -> list[str]:
    return [b"|".join(values)[:60].decode() for values, _ in cases]


@pytest.mark.parametrize("name", [b"WWW-Authenticate", b"www-authenticate", b"Proxy-Authenticate"])
@pytest.mark.parametrize(("values", "found"), CHALLENGES, ids=names(CHALLENGES))
def test_a_challenge_is_found_wherever_it_stands(
    name: bytes,
    values: list[bytes],
    found: bool,  # noqa: FBT001 - a table's column
) -> None:
    headers = Headers([(b"Content-Type", b"text/plain"), *((name, value) for value in values)])
    assert challenges_connection(headers) is found
    assert not sends_connection_credentials(headers)


def test_challenges_may_stand_in_both_fields() -> None:
    both = Headers([(b"Proxy-Authenticate", b"Basic"), (b"WWW-Authenticate", b"NTLM")])
    assert challenges_connection(both)


CREDENTIALS: list[tuple[list[bytes], bool]] = [
    ([b"NTLM TlRMTVNTUAABAAAA"], True),
    ([b"Negotiate YIIFqwYGKwYBBQUCoIIFnzCC=="], True),
    ([b"ntlm TlRM"], True),
    ([b"NTLM"], True),
    ([b"Basic dTpw", b"NTLM TlRM"], True),
    ([b"Basic dTpw"], False),
    ([b"Bearer NTLM"], False),
    ([b'Digest username="NTLM, x", realm="y"'], False),
    ([], False),
]  # fmt: skip


@pytest.mark.parametrize(("values", "found"), CREDENTIALS, ids=names(CREDENTIALS))
def test_credentials_are_found_by_their_scheme(
    values: list[bytes],
    found: bool,  # noqa: FBT001 - a table's column
) -> None:
    headers = Headers([(b"Authorization", value) for value in values])
    assert sends_connection_credentials(headers) is found
    assert not challenges_connection(headers)


def test_what_is_meant_for_this_hop_tells_the_upstream_nothing() -> None:
    assert not sends_connection_credentials(Headers([(b"Proxy-Authorization", b"NTLM TlRM")]))
