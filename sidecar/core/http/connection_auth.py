"""Authentication that holds for a connection instead of a request: NTLM, Negotiate and their kin (RFC 4559 §6).

After such a handshake a server takes whatever else comes on the connection for the same user's, credentials or not. So
the connection, and every answer that came on it, is for one client alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.http.heads import Headers

CHALLENGES = frozenset({b"www-authenticate", b"proxy-authenticate"})
WHY = "connection-based authentication"
"""Why nothing of such an exchange has to do with the store."""

of_a_request = re.compile(rb"(?i)(?:bearer|basic )[^,]*\Z").match
"""Whether a value of Authorization authenticates its request alone, as nearly all do (RFC 6750 §2.1, RFC 7617 §2)."""
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*("?)')
"""A quoted string; without its end it is none, but reading it to the last octet keeps the search linear."""
_SCHEME = re.compile(rb"(?i)(?:^|,)[ \t]*(?:ntlm|negotiate|nego2|kerberos)(?![\w!#$%&'*+.^`|~=-])")
"""One of the schemes where a challenge or credentials begin (RFC 9110 §11.3). What is malformed counts as one when in
doubt: a connection too many that is not shared does no harm."""


def sends_connection_credentials(request: Headers) -> bool:
    """Whether Authorization is a step of a handshake that authenticates the connection.

    Proxy-Authorization speaks to this hop and never crosses, so no upstream is told anything by it.
    """
    value = request.index.get(b"authorization")
    return value is not None and not of_a_request(value) and _names_scheme(value)


def challenges_connection(response: Headers) -> bool:
    """Whether the answer, as the upstream sent it, is a step of such a handshake."""
    index = response.index
    if CHALLENGES.isdisjoint(index):
        return False
    return any(_names_scheme(index[name]) for name in CHALLENGES if name in index)


def _names_scheme(value: bytes) -> bool:
    if b'"' in value:
        value = _QUOTED.sub(lambda found: b'""' if found[1] else found[0], value)
    return _SCHEME.search(value) is not None
