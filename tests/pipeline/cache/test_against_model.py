"""Random exchanges against a naive model of a shared cache: the stage never serves what the rules do not allow.

Every body names the exchange in which the origin made it, so that whatever the client gets can be looked up and judged.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.pipeline.errors import CircuitOpen, ConnectionLost, ProxyError
from tests.support.cache_world import Answer, Reply, World

if TYPE_CHECKING:
    from sidecar.pipeline.message import Request

STALE_TTL = 50.0
CACHE_CONTROL = (
    "max-age=20", "max-age=20", "max-age=0", "max-age=20, public", "s-maxage=10", "max-age=20, must-revalidate",
    "no-store", "private, max-age=20", "no-cache", "max-age=5, stale-while-revalidate=10",
    "max-age=20, stale-if-error=10",
)  # fmt: skip
STATUSES = (200, 200, 200, 200, 301, 403, 404, 410, 429, 501)
NOT_AGAINST = {429, 501}
"""Statuses that withdraw nothing."""


@dataclass(frozen=True)
class Said:
    """What the origin does with its next requests."""

    cache_control: str
    vary: bool
    broken: str  # "", "refused", "status", "cut"
    status: int = 200


@dataclass(frozen=True)
class Asks:
    """A client's request; `together` of them at once."""

    target: str
    variant: str
    user: str
    directive: str
    together: int


@dataclass
class Made:
    """One answer of the origin."""

    said: Said
    asks_variant: bytes | None
    user: bytes | None
    target: bytes
    at: float
    whole: bytes

    def against(self, other: Made) -> bool:
        """Whether it withdraws what was made before: no redirection or error is another variant here."""
        said = self.said
        if said.status in NOT_AGAINST or said.broken or (said.status == 403 and self.user is not None):
            return False
        withdraws = said.status != 200 or (
            self.user is None and ("no-store" in said.cache_control or "private" in said.cache_control)
        )
        return withdraws and not (said.vary and other.said.vary and self.asks_variant != other.asks_variant)


@dataclass
class Model:
    world: World
    said: Said = Said("max-age=20", vary=False, broken="")
    made: list[Made] = field(default_factory=list)

    def reply(self, request: Request) -> Reply:
        said = self.said
        if said.broken == "refused":
            return Reply(error=ConnectionLost("reset"))
        if said.broken == "status":
            # The failing answer itself says nothing; who waits for the same may share it.
            said = Said("", vary=False, broken=said.broken)
        index = request.head.headers
        body = b"answer %d." % len(self.made)
        variant, user = index.get(b"variant"), index.get(b"authorization")
        self.made.append(Made(said, variant, user, request.head.target, self.world.clock.now, body))
        fields = {"Cache-Control": said.cache_control} | ({"Vary": "Variant"} if said.vary else {})
        if said.broken == "status":
            return Reply(503, body=body)
        if said.broken == "cut":
            return Reply(fields=fields, pieces=[body[:4], ConnectionLost("cut")])
        pieces: list[bytes] | None = [body[:4], body[4:]] if len(self.made) % 2 else None
        return Reply(said.status, fields=fields, body=body, pieces=pieces)  # type: ignore[arg-type]  # pieces are bytes here

    def judge(self, asks: Asks, answer: Answer, asked_at_start: int) -> None:
        """Whether `answer` may be what a client with `asks` gets now."""
        number = int(answer.body.removeprefix(b"answer ").removesuffix(b"."))
        made = self.made[number]
        assert answer.body == made.whole, "never a partial body"
        assert made.target == asks.target.encode(), "never another resource"
        if number >= asked_at_start and "collapsed" not in answer.cache_status and not answer.hit:
            return
        words = made.said.cache_control
        assert not made.said.vary or made.asks_variant == asks.variant.encode(), "never across Vary"
        assert "no-store" not in words
        assert "private" not in words
        assert "no-cache" not in words
        if made.user is not None or asks.user:
            assert any(word in words for word in ("public", "s-maxage", "must-revalidate")), "never across users"
        if not answer.hit:
            return
        for later in self.made[number + 1 : asked_at_start]:
            withdrawn = later.target == made.target and later.against(made)
            assert not withdrawn, "never what was withdrawn"
        age = self.world.clock.now - made.at
        lifetime = int(words.partition("age=")[2].partition(",")[0])
        assert answer.age == int(age)
        assert asks.directive not in ("no-cache", "no-store")
        if age >= lifetime:
            self.judge_stale(words, answer, age - lifetime)

    def judge_stale(self, words: str, answer: Answer, staleness: float) -> None:
        if "detail" not in answer.cache_status:
            assert "stale-while-revalidate" in words
            assert staleness <= 10
            return
        assert self.said.broken or self.world.origin.open, "it stands in only for a failure"
        assert "must-revalidate" not in words
        assert "s-maxage" not in words
        assert staleness <= (10 if "stale-if-error" in words else STALE_TTL)


SAID = st.builds(
    Said,
    st.sampled_from(CACHE_CONTROL),
    st.booleans(),
    st.sampled_from(["", "", "", "refused", "status", "cut"]),
    st.sampled_from(STATUSES),
)
ASKS = st.builds(
    Asks,
    st.sampled_from(["/a", "/b"]),
    st.sampled_from(["1", "2"]),
    st.sampled_from(["", "", "alice", "bob"]),
    st.sampled_from(["", "", "", "no-cache", "no-store", "max-stale=0"]),
    st.sampled_from([1, 1, 3]),
)
WAITS = st.sampled_from([1.0, 4.0, 7.0, 19.0, 45.0])
LIVES = st.tuples(SAID, ASKS, WAITS, SAID, ASKS, WAITS, SAID, ASKS)
"""Something is stored, becomes something else, and is asked for once more."""
STEPS = st.lists(LIVES | st.tuples(SAID | ASKS | WAITS | st.booleans()), max_size=30).map(
    lambda parts: list(chain(*parts))
)


async def exchange(model: Model, asks: Asks) -> None:
    fields = {"Variant": asks.variant}
    if asks.user:
        fields["Authorization"] = asks.user
    if asks.directive:
        fields["Cache-Control"] = asks.directive
    before = len(model.made)
    clients = [model.world.ask(asks.target, fields) for _ in range(asks.together)]
    for answer in await asyncio.gather(*clients, return_exceptions=True):
        if isinstance(answer, ProxyError):
            assert model.said.broken or isinstance(answer, CircuitOpen)
        else:
            assert isinstance(answer, Answer), answer
            model.judge(asks, answer, before)
    await model.world.settle()


async def run(steps: list[Said | Asks | float | bool]) -> None:
    world = World(Reply(), stale_ttl=STALE_TTL)
    model = Model(world)
    world.origin.replies = [model.reply]
    for step in steps:
        match step:
            case bool():
                world.origin.open = step
            case float():
                world.clock.now += step
            case Said():
                model.said = step
            case Asks():
                await exchange(model, step)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_nothing_is_served_beyond_what_the_rules_allow(steps: list[Said | Asks | float | bool]) -> None:
    asyncio.run(run(steps))
