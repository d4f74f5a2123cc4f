"""What spans say besides what is known of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.redaction import Redaction


@dataclass(frozen=True, slots=True)
class Surface:
    """How the sidecar looks from outside: the scheme of its listener, what each route matches by its name, what must
    not be shown of a target, and the version.
    """

    scheme: str
    pattern_of: Callable[[str], str | None]
    redaction: Redaction
    version: str
