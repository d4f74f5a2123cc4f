"""What of one route's configuration its cache decides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.config import CacheSettings


@dataclass(frozen=True, slots=True)
class RouteRules:
    """What one route's decisions rest on.

    `failures` are the statuses with which the upstream fails. `targeted` are the lower-case names of the fields that
    win over Cache-Control. `foreign_fields` keep a request away from the store, and `credentials_keyed` are the fields
    saying who asks that are part of the key (see `key`).
    """

    settings: CacheSettings
    failures: frozenset[int] = frozenset()
    targeted: tuple[bytes, ...] = ()
    foreign_fields: frozenset[bytes] = frozenset()
    credentials_keyed: frozenset[bytes] = frozenset()
