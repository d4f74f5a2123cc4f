"""What must not be read in logs, events and samples: the values of query parameters that the operator names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REDACTED = "(redacted)"
_ENDS = re.compile(r"([&\s])")
"""What ends a value, in a target or in a sentence that holds one."""
_BEGINS = re.compile(r"([?;])")
"""What a name may follow besides."""


class Redaction:
    """Takes the values of the query parameters called `names` out of texts; the names stay.

    A name is recognized whatever its case, percent-encoded or not, and as a list (`token[]`). Parameters may be parted
    by `;` too; a value that is taken out ends at `&` all the same, because most servers know no other end.
    """

    __slots__ = ("_names",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(map(_plain, names))

    def __call__(self, text: str) -> str:
        """`text`, a request target, a URL or a sentence with some in it, without those values."""
        if not self._names or "=" not in text:
            return text
        return "".join(map(self._parameter, _ENDS.split(text)))

    def sample(self, target: str) -> str:
        """A target as it is kept in samples, which live longer than lines of a log: without its query, unless the
        operator has said what in it is secret.
        """
        return self(target) if self._names else target.partition("?")[0]

    def details(self, value: object) -> object:
        """A JSON value in which no text has any of them."""
        match value:
            case str():
                return self(value)
            case dict():
                return {key: self.details(item) for key, item in value.items()}
            case list():
                return [self.details(item) for item in value]
        return value

    def mapping(self, details: Mapping[str, object]) -> Mapping[str, object]:
        """The `details` of an event with secrets taken out; themselves where nothing is ever taken out."""
        return {key: self.details(value) for key, value in details.items()} if self._names else details

    def _parameter(self, text: str) -> str:
        shown = ""
        for part in _BEGINS.split(text):
            name, equals, _ = part.partition("=")
            if equals and _plain(name) in self._names:
                return f"{shown}{name}={REDACTED}"
            shown += part
        return shown


def _plain(name: str) -> str:
    return unquote(name).partition("[")[0].casefold()


NOTHING_REDACTED = Redaction()
