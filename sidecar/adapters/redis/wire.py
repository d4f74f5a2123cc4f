"""The fleet's messages as the JSON that `fleet.lua` reads and writes. What makes no sense raises ValueError."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from sidecar.core.circuit.explanation import OverrideMode, State
from sidecar.core.fleet.messages import (
    NO_VERSION,
    CircuitView,
    FleetView,
    Heard,
    LeaseAnswer,
    Member,
    News,
    Pooled,
    Record,
    Version,
    Word,
)

if TYPE_CHECKING:
    from sidecar.core.fleet.messages import Named, Push, Verdict, Vote

VERSION = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)
FOREVER = -1
NONSENSE = (KeyError, TypeError, AttributeError, IndexError, RecursionError)


def parsed(octets: object) -> Any:
    """What a reply holds."""
    if not isinstance(octets, bytes):
        raise ValueError(f"{type(octets).__name__} is no reply")  # noqa: TRY004 - a value of Redis', not a caller's
    return json.loads(octets)


def version_text(version: Version) -> str:
    """As it stands in Redis."""
    return f"{version.epoch}-{version.number}"


def version_in(text: str) -> Version:
    """What `version_text` made. Raises ValueError."""
    found = VERSION.fullmatch(text)
    if found is None:
        raise ValueError("no version")
    return Version(int(found[1]), int(found[2]))


def milliseconds(seconds: float) -> int:
    """Whole ones, at least 1 of anything."""
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


def push_out(push: Push) -> dict[str, object]:
    """All that a pod says at once."""
    return {
        "known": version_text(push.known),
        "members": push.members,
        "quorum": push.quorum,
        "beat": push.heartbeat,
        "named": [_named_out(named) for named in push.named],
    }


def _named_out(named: Named) -> dict[str, object]:
    content: dict[str, object] = {
        "circuit": named.circuit,
        "bucket": milliseconds(named.bucket),
        "counts": named.counts,
    }
    if named.vote is not None:
        content["vote"] = _vote_out(named.vote)
    return content


def _vote_out(vote: Vote) -> dict[str, object]:
    return {
        "ttl": milliseconds(vote.ttl),
        "round": str(vote.round),
        "left": milliseconds(vote.left),
        "n": vote.reopenings,
        "detail": vote.detail,
    }


def verdict_out(verdict: Verdict) -> dict[str, object]:
    """How a probe ended."""
    return {
        "circuit": verdict.circuit,
        "id": verdict.id,
        "round": str(verdict.round),
        "outcome": verdict.outcome,
        "left": milliseconds(verdict.left),
        "n": verdict.reopenings,
        "detail": verdict.detail,
        "closes": verdict.closes,
        "threshold": verdict.threshold,
    }


def word_out(word: Word) -> dict[str, object]:
    """An operator's word."""
    return {
        "circuit": word.circuit,
        "stamp": str(word.stamp),
        "mode": "" if word.mode is None else word.mode.value,
        "reason": word.reason,
        "actor": word.actor,
        "left": FOREVER if word.left is None else milliseconds(word.left),
    }


def record_in(content: Any) -> Record:
    """One circuit of the fleet."""
    return Record(
        str(content["circuit"]),
        int(content["round"]),
        State(content["state"]),
        max(0.0, float(content["left"]) / 1000),
        int(content["n"]),
        str(content["by"]),
        str(content["detail"]),
    )


def word_in(content: Any) -> Word:
    """An operator's word."""
    left = float(content["left"])
    mode = OverrideMode(content["mode"]) if content["mode"] else None
    return Word(
        str(content["circuit"]),
        int(content["stamp"]),
        mode,
        str(content["reason"]),
        str(content["actor"]),
        None if left < 0 else left / 1000,
    )


def news_in(content: Any) -> News:
    """What changed. Lua knows no empty list: it is an empty object there."""
    return News(
        version_in(content["v"]),
        int(content["clock"]) / 1_000_000,
        int(content["members"]),
        tuple(record_in(record) for record in content["records"]),
        tuple(word_in(word) for word in content["words"]),
        tuple((str(name), Pooled(*map(int, numbers))) for name, *numbers in content["pooled"]),
    )


def lease_in(content: Any) -> LeaseAnswer:
    """Whether a probe may start."""
    return LeaseAnswer(content["granted"] is True, record_in(content["record"]), float(content["wait"]) / 1000)


def view_in(content: Any) -> FleetView:
    """The fleet as an operator looks at it."""
    members = tuple(Member(str(id_), str(version), float(since) / 1000) for id_, version, since in content["members"])
    circuits = {}
    for each in content["circuits"]:
        record = record_in(each["record"])
        voters, probing = tuple(map(str, each["voters"])), tuple(_holder(str(id_)) for id_ in each["probing"])
        requests, failures, slow = map(int, each["pooled"])
        pooled = Pooled(requests, failures, slow, len(voters))
        circuits[record.circuit] = CircuitView(record, voters, probing, pooled)
    return FleetView(members, circuits, fresh=True)


def heard_in(octets: bytes) -> Heard:
    """What was told to all. Raises ValueError for anything else."""
    try:
        content = parsed(octets)
        if "freed" in content:
            return Heard(freed=str(content["freed"]))
        record, word = content.get("record"), content.get("word")
        return Heard(
            version_in(content["v"]) if "v" in content else NO_VERSION,
            version_in(content["before"]) if "before" in content else NO_VERSION,
            None if record is None else record_in(record),
            None if word is None else word_in(word),
        )
    except NONSENSE as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def lease_id(pod: str, number: int) -> str:
    """A lease tells whose it is."""
    return f"{pod}|{number}"


def _holder(lease: str) -> str:
    return lease.rpartition("|")[0]
