"""What the pipeline asks of the world, and what the world may ask of it. Adapters implement these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Container, Coroutine, Sequence

    from sidecar.core.cache.stored import Draft, Selecting, StoredResponse
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.gate import Lease
    from sidecar.core.storage.purging import PurgeRule
    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.stats import StoreStats


class Clock(Protocol):
    """Time. Everything that waits or measures uses `monotonic`; `wall` is for dates that leave the process."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never steps."""

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; may step either way."""


class Spawn(Protocol):
    """The one way to start a task: its owner logs what it raises and cancels it at shutdown."""

    def __call__(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `work` in the background."""


class Handler(Protocol):
    """A stage, or the whole stack around an upstream.

    Every request is awaited through it exactly once, whatever answers it in the end: memory, a refusal, the upstream.
    """

    async def handle(self, request: Request) -> Response:
        """The answer to `request`. Raises ProxyError when there is none."""


class ProbeLeases(Protocol):
    """The leave of a fleet to probe. A lease is lent to the circuit's gate by whoever asks the circuit next."""

    async def acquire(self, circuit: Circuit) -> Lease | None:
        """A lease for a circuit that wants one; None when none is to be had now. Waits briefly, if at all."""

    def give_back(self, circuit: Circuit, lease: Lease) -> None:
        """Nobody probes with it."""

    def return_unused(self, circuit: Circuit, lease: Lease) -> None:
        """Give back what was lent to `circuit`, unless a probe took it."""


WriteToken: TypeAlias = int
"""When a fetch began, in a store's own count of invalidations and purges. Opaque to everyone else."""


@dataclass(frozen=True, slots=True)
class RouteEntries:
    """What a store holds of one route: answers, bytes, the monotonic time the oldest was put, the largest's bytes."""

    route: str
    entries: int
    bytes: int
    oldest: float
    largest: int


URLS_TOLD = 20
"""How many URLs a purge names of what it covered."""


class Purged(NamedTuple):
    """What a purge covered: how many answers, and the URLs of some, as the upstream knows them. `told`: whether the
    fleet has been told already, as it will be; None without one.
    """

    entries: int
    urls: tuple[bytes, ...] = ()
    told: bool | None = None


class StoreFollower(Protocol):
    """Who keeps what a store keeps, behind it. Told at once; must be quick, and must not raise."""

    def kept(self, stored: StoredResponse) -> None:
        """It was put."""

    def invalidated(self, key: bytes, variants: Collection[Selecting] | None) -> None:
        """`invalidate` was called."""

    def purged(self, rule: PurgeRule) -> None:
        """`purge` was called."""


class SharedLook(Protocol):
    """Behind the store, the one that a whole fleet shares."""

    async def look(self, key: bytes) -> bool:
        """Whether something came into the store from there. Waits for a bounded time, and never raises."""

    def unknown(self, key: bytes) -> None:
        """The upstream is asked for `key` without a look."""


class ListedAnswer(NamedTuple):
    """What is told of a stored answer without reading it; times monotonic, `size` in bytes with all overhead."""

    url: bytes
    route: str
    tags: tuple[bytes, ...]
    born: float
    expires_at: float
    size: int


class AnswerList(NamedTuple):
    """Some stored answers, and where the list goes on; None when it is over."""

    answers: Sequence[ListedAnswer]
    next: int | None


class CacheStore(Protocol):
    """Where stored answers are kept: in memory, bounded in bytes. Synchronous, and called on the event loop only.

    A store never judges: it does not look at freshness, Vary or directives, and never changes what it was given. It
    may forget anything at any time, but never something merely because it is stale before its `keep_until`. An answer
    that another `put` replaced, or that an invalidation or a purge covered, is never returned again.
    """

    stats: StoreStats
    arriving: dict[bytes, int]
    """How many answers are on their way here whose heads are known already, by key. Kept by who stores them."""
    puts: int
    """How many answers were put so far."""
    unread: Container[bytes]
    """Keys of which there may be more behind this store, where it could not be looked at."""
    follower: StoreFollower | None

    def get(self, key: bytes) -> Sequence[StoredResponse]:
        """The stored variants of `key`, most recently put first; empty when there are none.

        O(1) in the number of entries, and counts as a use for the eviction. The caller does not change the sequence;
        it may be the store's own.
        """

    def begin(self, key: bytes) -> WriteToken:
        """To be called before asking the upstream for what may be `put` under `key`. Nothing is to be released."""

    def put(self, stored: StoredResponse, token: WriteToken) -> bool:
        """Keep `stored` in place of the variant with the same `key` and `selecting`; False when it was refused.

        Refused when, since `begin` gave `token`, an `invalidate` or a `purge` covered `stored` by its key, route, URL,
        prefix or any of its tags: a fetch that races one of these loses, always (a store whose memory of them is
        bounded refuses when in doubt). Also refused when it does not fit. A refused put leaves what is there alone.
        The oldest variant goes when `key` has more than the permitted number.
        """

    def raced(self, stored: StoredResponse | Draft, token: WriteToken) -> bool:
        """Whether `put` would refuse it because of what was invalidated or purged since `begin` gave `token`."""

    def invalidate(self, key: bytes, variants: Collection[Selecting] | None = None) -> int:
        """Forget every variant of `key`, or those with one of these selecting values; how many there were.

        Fetches of `key` already begun will not be stored, whichever variant they are for.
        """

    def purge(
        self,
        *,
        route: str | None = None,
        url: bytes | None = None,
        prefix: bytes | None = None,
        tag: bytes | None = None,
    ) -> Purged:
        """Forget what has this `route`, this exact `url`, a `url` that starts with `prefix`, or this tag.

        At least one is given; several narrow each other. Fetches already begun that would be covered are refused.
        """

    def list_answers(self, rules: Sequence[PurgeRule], start: int, limit: int) -> AnswerList:
        """At most `limit` answers that one of `rules` covers, from the place `start` on, found in a bounded time: there
        may be fewer than that, and more behind them.

        While the list is read page by page answers come and go; one that stays all the time is told once.
        """

    def summarize(self) -> Sequence[RouteEntries]:
        """What each route with entries holds, by route name; must not stall the loop however many entries there are."""
