"""A sidecar's side of the fleet: what to say next, and what to make of what is heard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import Cause
from sidecar.core.circuit.gate import Gate
from sidecar.core.config import BreakerMode
from sidecar.core.fleet.messages import NO_VERSION, CircuitView, FleetView, Push
from sidecar.core.fleet.share import Share
from sidecar.core.fleet.words import Words, obey, word_of
from sidecar.core.fleet_settings import FleetTrip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.circuit.gate import ProbeEnd
    from sidecar.core.fleet.messages import Heard, Member, Named, News, Record, Word
    from sidecar.core.fleet_settings import FleetSettings

HEARTBEAT = 2.0
MEMBER_TTL = 7.0
"""Seconds after which a pod that was not heard of is none any more."""


class Fleet:
    """Every circuit's share, and what is known of the others. All times are monotonic seconds.

    `ended` hears how each probe of a shared circuit ended. `members`: how many there are, as last told.
    """

    def __init__(self, settings: FleetSettings, me: Member, ended: Callable[[str, ProbeEnd], None]) -> None:
        self.me = me
        self.settings = settings
        self.shares: dict[str, Share] = {}
        self.words = Words()
        self.known = NO_VERSION
        self.members = 1
        self._most = 1
        self._most_until = 0.0
        self._ended = ended
        self._heartbeat_at = float("-inf")
        self._ahead: float | None = None
        """Redis' time less the monotonic time."""

    def follow(self, circuits: Iterable[Circuit], now: float) -> None:
        """Share these circuits from now on; those that went on under a reload keep what is known of them."""
        before, self.shares = self.shares, {}
        for circuit in circuits:
            wanted = self.settings.trip is not FleetTrip.LOCAL and circuit.settings.mode is BreakerMode.ENFORCE
            share = before.get(circuit.name)
            if share is None or share.circuit is not circuit or (share.gate is not None) != wanted:
                circuit.gate = Gate(partial(self._ended, circuit.name)) if wanted else None
                share = Share(circuit, self.me.id, circuit.gate, now)
                # What the fleet knows of it is told anew.
                self.known = NO_VERSION
            self.shares[circuit.name] = share

    def moved(self, transition: Transition) -> bool:
        """A circuit had a transition; whether the fleet should hear of it at once."""
        share = self.shares.get(transition.circuit)
        return share is not None and share.moved(transition)

    def closed_for_all(self, transition: Transition) -> bool:
        """Whether it was an operator's reset of a circuit that the fleet holds open, and that all should close."""
        share = self.shares.get(transition.circuit)
        return transition.cause is Cause.RESET and share is not None and share.gate is not None and share.gate.shared

    def restored(self, now: float) -> None:
        """Overrides of the fleet that an earlier process left count as told by it, until Redis knows better."""
        for name, share in self.shares.items():
            override = share.circuit.override_in_force(now)
            if override is not None and override.fleet:
                self.words.keep(word_of(override, name, now), now)

    # What to say

    def push(self, now: float) -> Push | None:
        """What is to be said at `now`; None when nothing is, and only the version need be looked at."""
        named = tuple(one for share in self.shares.values() if (one := share.owed(now)) is not None)
        beat = now >= self._heartbeat_at
        if not named and not beat and self.known != NO_VERSION:
            return None
        return self.question(now, named=named, heartbeat=beat)

    def question(self, now: float, *, named: tuple[Named, ...] = (), heartbeat: bool = False) -> Push:
        """What asks for all that changed, and says `named`."""
        quorum = 1 if self.settings.trip is FleetTrip.ANY else self.settings.quorum
        return Push(self.known, self._lately(now), quorum, heartbeat=heartbeat, named=named)

    def said(self, push: Push, now: float) -> None:
        """`push` has been heard."""
        if push.heartbeat:
            self._heartbeat_at = now + HEARTBEAT
        for named in push.named:
            if (share := self.shares.get(named.circuit)) is not None:
                share.told(named, now)

    def tell_again(self) -> None:
        """Say once more what stands: Redis has lost it, or was away for long."""
        self._heartbeat_at = float("-inf")
        self.words.tell_again()
        for share in self.shares.values():
            share.vote_again()

    def stamp(self, now: float) -> int:
        """The stamp of a word that cannot be told now, by Redis' time as far as it is known; 0 where it is not."""
        return 0 if self._ahead is None else round((now + self._ahead) * 1_000_000)

    # What to make of it

    def take(self, news: News, now: float) -> None:
        """Take up all that changed."""
        self._count(news.members, now)
        self._ahead = news.clock - now
        known, self.known = self.known, news.version
        if known != NO_VERSION and (news.version.epoch != known.epoch or news.version < known):
            self.tell_again()
        for record in news.records:
            self.record(record, now)
        for word in news.words:
            self.word(word, now)
        for name, pooled in news.pooled:
            if (share := self.shares.get(name)) is not None:
                share.pooled = pooled

    def hear(self, heard: Heard, now: float) -> None:
        """Take up what was told to all."""
        if heard.record is not None:
            self.record(heard.record, now)
        if heard.word is not None:
            self.word(heard.word, now)
        if (share := self.shares.get(heard.freed)) is not None and share.gate is not None:
            share.gate.hold_until = float("-inf")
        if heard.version != NO_VERSION and heard.before == self.known:
            self.known = heard.version

    def record(self, record: Record, now: float) -> None:
        """Take up what became of one circuit."""
        if (share := self.shares.get(record.circuit)) is not None:
            share.take(record, now)

    def word(self, word: Word, now: float) -> None:
        """Take up what an operator said, here or elsewhere."""
        share = self.shares.get(word.circuit)
        if share is not None and self.words.take(word, now):
            obey(word, share.circuit, now)

    def view(self, now: float) -> FleetView:
        """The fleet as far as it is known here."""
        circuits = {
            name: CircuitView(share.record, (self.me.id,) if share.voting(now) else (), (), share.pooled)
            for name, share in self.shares.items()
        }
        return FleetView((self.me,), circuits)

    def _lately(self, now: float) -> int:
        """The most members of the last seconds: Redis that lost its data, and a fleet that returns to it one by one,
        must not make a majority of one pod.
        """
        return self._most if now < self._most_until else self.members

    def _count(self, members: int, now: float) -> None:
        self.members = members
        if members >= self._lately(now):
            self._most, self._most_until = members, now + MEMBER_TTL + HEARTBEAT
