"""`${VAR}` in configuration values.

It works on the text of one scalar after parsing, so a variable's value can never add structure to the file:

    ${VAR}            its value; unset is an error
    ${VAR:-default}   its value, or `default` when unset or empty
    ${VAR:?message}   its value, or the error `message` when unset or empty
    $${               a literal ${
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>[^{}]*)\}|\$\{")
BODY = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<operator>[-?])(?P<word>.*))?", re.DOTALL)


class SubstitutionFailed(ValueError):
    """A reference that is malformed, or whose variable is missing; the text says which."""


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """`text` with every reference replaced. Raises SubstitutionFailed."""
    if "${" not in text:
        return text
    return REFERENCE.sub(lambda found: _replacement(found, environ), text)


def _replacement(found: re.Match[str], environ: Mapping[str, str]) -> str:
    if found[0] == "$${":
        return "${"
    parts = BODY.fullmatch(found["body"] or "")
    if parts is None:
        raise SubstitutionFailed("not a variable reference: write ${NAME}, ${NAME:-default} or ${NAME:?message}")
    name, operator, word = parts["name"], parts["operator"], parts["word"]
    value = environ.get(name)
    if operator is None:
        if value is None:
            raise SubstitutionFailed(f"the environment variable {name} is not set")
        return value
    if value:
        return value
    if operator == "-":
        return str(word)
    raise SubstitutionFailed(f"{name}: {word or 'not set'}")
