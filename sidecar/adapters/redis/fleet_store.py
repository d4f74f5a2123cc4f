"""The fleet's state in Redis: a `FleetStore`. What happens there is in `fleet.lua`, one call for each operation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.adapters.redis import wire
from sidecar.adapters.redis.client import RedisClient
from sidecar.adapters.redis.failure import ALL_KINDS, Trouble
from sidecar.adapters.redis.script import load_script
from sidecar.adapters.redis.subscriber import Subscriber
from sidecar.core.fleet.fleet import MEMBER_TTL
from sidecar.pipeline.fleet.ports import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.core.fleet.messages import (
        FleetView,
        Heard,
        LeaseAnswer,
        LeaseWish,
        Member,
        News,
        Push,
        Record,
        Verdict,
        Version,
        Word,
    )
    from sidecar.core.fleet_settings import RedisSettings
    from sidecar.pipeline.ports import Clock
    from sidecar.pipeline.stats import FleetStats

T = TypeVar("T")

DEADLINE = 1.0
"""Seconds for what nobody waits for."""
SHOWN_LATER = 10
"""How many times longer than a request an operator waits for a look-up."""
MOST_SHOWN = 1000
"""Members and voters that a view lists."""


class RedisFleetStore:
    """The state under the namespace of `settings`, spoken to as the member `me`."""

    def __init__(self, settings: RedisSettings, me: Member, stats: FleetStats, clock: Clock) -> None:
        for kind in ALL_KINDS:
            stats.errors.setdefault(kind, 0)
        self._me = me
        self._settings = settings
        self._client = RedisClient(settings, stats, Trouble(stats, clock.monotonic))
        self._script = load_script("fleet.lua")
        # The braces make it a hash tag: in a Cluster all keys lie in one slot.
        self._key = f"{{{settings.namespace}}}:v"
        self._channel = f"{{{settings.namespace}}}:events"

    async def version(self) -> Version | None:
        """The version of everything; None when there is none, or nonsense."""
        try:
            found = await self._client.call("GET", self._key, deadline=DEADLINE, doing="look at the fleet")
        except StoreUnavailable as failure:
            # What is no text there is overwritten by the push that follows.
            if failure.kind == "wrong_type":
                return None
            raise
        try:
            return None if found is None else wire.version_in(found.decode())
        except ValueError:
            return None

    async def push(self, push: Push) -> News:
        """Say what is new here, and hear what is new."""
        return await self._ask("push", wire.push_out(push), wire.news_in)

    async def lease(self, wish: LeaseWish) -> LeaseAnswer:
        """Ask for leave to probe."""
        request = {
            "circuit": wish.circuit,
            "id": wish.id,
            "round": str(wish.round),
            "limit": wish.limit,
            "lease": wire.milliseconds(wish.ttl),
        }
        return await self._ask("lease", request, wire.lease_in)

    async def verdict(self, verdict: Verdict) -> Record:
        """Say how a probe ended."""
        return await self._ask("verdict", wire.verdict_out(verdict), lambda reply: wire.record_in(reply["record"]))

    async def close_circuit(self, circuit: str, round_: int, detail: str) -> Record:
        """Close the fleet's circuit."""
        request = {"circuit": circuit, "round": str(round_), "detail": detail}
        return await self._ask("close", request, lambda reply: wire.record_in(reply["record"]))

    async def say(self, word: Word) -> Word:
        """Say an operator's word to all."""
        return await self._ask("say", wire.word_out(word), lambda reply: wire.word_in(reply["word"]))

    async def view(self, circuits: Iterable[tuple[str, float]]) -> FleetView:
        """The fleet as it is now."""
        asked = [[name, wire.milliseconds(bucket)] for name, bucket in circuits]
        request = {"circuits": asked, "most": MOST_SHOWN}
        return await self._ask("view", request, wire.view_in, self._settings.read_timeout * SHOWN_LATER)

    async def leave(self, circuits: Iterable[str], leases: Iterable[tuple[str, str]]) -> None:
        """This sidecar is no member any more."""
        request = {"circuits": list(circuits), "leases": [list(lease) for lease in leases]}
        await self._ask("leave", request, lambda _: None)

    async def listen(self, heard: Callable[[Heard], None]) -> None:
        """Tell `heard` of everything that is told to all."""

        def message(octets: bytes) -> None:
            try:
                heard(wire.heard_in(octets))
            except ValueError as error:
                self._client.garbage(error, "listen")

        await Subscriber(self._client, self._channel, message).run()

    async def close(self) -> None:
        """Let go of every connection."""
        await self._client.close()

    async def _ask(
        self, operation: str, request: dict[str, Any], read: Callable[[Any], T], deadline: float | None = None
    ) -> T:
        request |= {"pod": self._me.id, "version": self._me.version, "ttl": wire.milliseconds(MEMBER_TTL)}
        body = json.dumps(request, separators=(",", ":"))
        doing = f"{operation} the fleet's state"
        deadline = DEADLINE if deadline is None else deadline
        reply = await self._client.run(self._script, self._key, operation, body, deadline=deadline, doing=doing)
        try:
            return read(wire.parsed(reply))
        except (ValueError, *wire.NONSENSE) as error:
            raise self._client.garbage(error, doing) from error
