"""Collapsed forwarding: requests for one key that come while it is being fetched share that fetch (cache.md 23).

Each of them judges for itself whether it may have the answer, by Vary and by its credentials. A key whose answer could
not be shared is remembered for a while as not worth waiting for (hit-for-miss).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from sidecar.core.cache.conditional import OUR_PRECONDITIONS
from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES
from sidecar.core.cache.sharing import may_share, may_use, shared_failure
from sidecar.core.cache.status import Forwarded
from sidecar.core.cache.vary import matches, normalized
from sidecar.core.config import CacheMode
from sidecar.pipeline.cache.collect import announce, store_body
from sidecar.pipeline.cache.fetch import UPSTREAM_ERROR, Arriving, Delivered
from sidecar.pipeline.cache.shared_fetch import (
    ArrivingAnswer,
    FailedAnswer,
    NothingShared,
    SharedAnswer,
    SharedFetch,
    WholeAnswer,
    decline,
)
from sidecar.pipeline.cache.shared_stream import SharedStream
from sidecar.pipeline.errors import Draining, InternalError, ProxyError
from sidecar.pipeline.message import BodyEnd, Response

if TYPE_CHECKING:
    from sidecar.core.cache.request_policy import KeyedRequest
    from sidecar.core.cache.stored import Draft, StoredResponse
    from sidecar.pipeline.cache.answers import CacheAnswers
    from sidecar.pipeline.cache.fetch import Fetched, Fetcher, UpstreamFetch
    from sidecar.pipeline.cache.route import CachedRoute, CacheParts

HIT_FOR_MISS = 30.0
"""Seconds for which a key whose answer could not be shared is fetched without collapsing."""
REMEMBERED_KEYS = 4096
PERSONAL = frozenset({b"authorization"})
"""Credentials with which a request neither shares a fetch nor waits for one, unless they are in the key."""


class Collapser:
    """The shared fetches of one route."""

    __slots__ = (
        "_answers",
        "_enabled",
        "_fetcher",
        "_monotonic",
        "_not_shared",
        "_personal",
        "_rules",
        "_spawn",
        "_store",
        "_under_way",
    )

    def __init__(self, fetcher: Fetcher, route: CachedRoute, shared: CacheParts, answers: CacheAnswers) -> None:
        self._fetcher = fetcher
        self._store = shared.store
        self._spawn = shared.spawn
        self._monotonic = shared.clock.monotonic
        self._rules = route.rules
        self._answers = answers
        settings = route.rules.settings
        self._enabled = settings.collapse and settings.mode is CacheMode.STANDARD
        self._personal = PERSONAL - route.rules.credentials_keyed
        self._under_way: dict[bytes, SharedFetch] = {}
        self._not_shared: OrderedDict[bytes, float] = OrderedDict()

    def collapses(self, keyed: KeyedRequest) -> bool:
        """Whether a request may wait for another's fetch, and it is worth it."""
        if not self._enabled or keyed.head.method != "GET" or keyed.directives is not NO_REQUEST_DIRECTIVES:
            return False
        if self._not_shared and self.is_not_shared(keyed.key):
            return False
        return self._personal.isdisjoint(keyed.head.headers.index)

    def is_not_shared(self, key: bytes) -> bool:
        """Whether the answer to `key` was one for nobody else lately."""
        until = self._not_shared.get(key)
        return until is not None and self._monotonic() < until

    def remember(self, key: bytes) -> None:
        """The answer to `key` could not be shared."""
        self._not_shared[key] = self._monotonic() + HIT_FOR_MISS
        self._not_shared.move_to_end(key)
        if len(self._not_shared) > REMEMBERED_KEYS:
            self._not_shared.popitem(last=False)

    def is_fetching(self, keyed: KeyedRequest) -> bool:
        """Whether there is a fetch under way that `keyed` could share."""
        return self._joinable(keyed.key) is not None

    async def join(self, fetch: UpstreamFetch) -> Response | None:
        """The answer of the fetch under way, or None when there is none that this request may have.

        An answer for another variant teaches which fields select: requests for this variant collapse among themselves.
        Raises ProxyError when the fetch failed.
        """
        shared: SharedAnswer = NothingShared()
        under_way = self._joinable(fetch.keyed.key)
        if under_way is not None:
            shared = await under_way.join()
        key = self._key_of_variant(fetch.keyed, shared)
        if key is not None:
            decline(shared)
            sibling = self._joinable(key)
            if sibling is None:
                return await self._start(key, fetch).leader_answer() if leads(fetch) else None
            shared = await sibling.join()
        return self._follower_answer(fetch, shared)

    async def lead(self, fetch: UpstreamFetch) -> Response:
        """The answer of a new fetch, which others may share. Raises ProxyError."""
        return await self._start(fetch.keyed.key, fetch).leader_answer()

    def _joinable(self, key: bytes) -> SharedFetch | None:
        under_way = self._under_way.get(key)
        return under_way if under_way is not None and under_way.joinable else None

    def _start(self, key: bytes, fetch: UpstreamFetch) -> SharedFetch:
        shared = SharedFetch()
        if fetch.request.on_interim is not None:
            fetch.request.on_interim = partial(shared.interim, fetch.request.on_interim)
        self._under_way[key] = shared
        shared.task = self._spawn(self._run(key, shared, fetch), name="cache fetch")
        return shared

    # What a follower gets

    def _follower_answer(self, fetch: UpstreamFetch, shared: SharedAnswer) -> Response | None:
        """What of `shared` this request may have; None when it must ask for itself."""
        request = fetch.keyed.head.headers
        member = Forwarded(fetch.reason, collapsed=True)
        if isinstance(shared, FailedAnswer) and may_share(shared.selecting, request, self._rules):
            return self._answers.forwarded(Response(shared.head, shared.body), member)
        if not isinstance(shared, (WholeAnswer, ArrivingAnswer)):
            return None
        stored = shared.entry if isinstance(shared, WholeAnswer) else shared.draft
        if not matches(stored.selecting, request) or not may_use(stored, request, self._rules):
            decline(shared)
            return None
        now = self._monotonic()
        if isinstance(shared, ArrivingAnswer):
            lines = self._answers.validated_lines(stored, now, member)
            return Response(stored.head, shared.reader, extra=lines)
        if shared.stands_in is not None:
            answer = self._answers.hit(fetch.keyed.head, shared.entry, now, UPSTREAM_ERROR)
            answer.stand_in = shared.stands_in
            return answer
        return self._answers.validated(fetch.keyed.head, shared.entry, now, member)

    def _key_of_variant(self, keyed: KeyedRequest, shared: SharedAnswer) -> bytes | None:
        """Under which key requests like `keyed` collapse, when `shared` is an answer for other selecting values."""
        if isinstance(shared, WholeAnswer):
            selecting = shared.entry.selecting
        elif isinstance(shared, ArrivingAnswer):
            selecting = shared.draft.selecting
        else:
            return None
        if matches(selecting, keyed.head.headers):
            return None
        index = keyed.head.headers.index
        values = [(name, normalized(name, index.get(name))) for name, _ in selecting]
        return keyed.key + b"\n" + repr(values).encode()

    # The fetch

    async def _run(self, key: bytes, shared: SharedFetch, fetch: UpstreamFetch) -> None:
        try:
            await self._deliver(key, shared, fetch, await self._fetcher.fetch(fetch))
        except ProxyError as error:
            shared.fail(error)
        except asyncio.CancelledError:
            shared.fail(Draining("the fetch was given up"))
            raise
        except BaseException:
            shared.fail(InternalError("the fetch failed in the sidecar"))
            raise
        finally:
            self._close(key, shared)

    async def _deliver(self, key: bytes, shared: SharedFetch, fetch: UpstreamFetch, fetched: Fetched) -> None:
        if isinstance(fetched, Delivered):
            self._close(key, shared)
            shared.deliver(fetched.response, self._for_followers(key, fetch, fetched))
        elif self._sharable(fetched.storing.draft):
            await self._deliver_stream(key, shared, fetched)
        else:
            self._close(key, shared)
            self.remember(key)
            shared.deliver(self._fetcher.collected(fetched), NothingShared())

    def _for_followers(self, key: bytes, fetch: UpstreamFetch, delivered: Delivered) -> SharedAnswer:
        """What others may have of an answer that is all there."""
        entry, response = delivered.entry, delivered.response
        if entry is not None and (delivered.stands_in or self._sharable(entry)):
            self._not_shared.pop(key, None)
            return WholeAnswer(entry, response.stand_in)
        if response.head.connection_bound or response.head.status not in self._rules.failures:
            self.remember(key)
            return NothingShared()
        selecting = shared_failure(fetch.keyed.head.headers, response.head, self._rules)
        if selecting is None or not isinstance(response.body, bytes):
            return NothingShared()
        return FailedAnswer(response.head, response.body, selecting)

    async def _deliver_stream(self, key: bytes, shared: SharedFetch, arriving: Arriving) -> None:
        stream = SharedStream(arriving.body, self._rules.settings.max_entry_size, shared.abandon)
        storing = arriving.storing
        announce(self._store, storing)
        shared.deliver_stream(arriving.response, storing.draft, stream)
        try:
            body = await stream.pump()
        except asyncio.CancelledError:
            store_body(self._store, storing, None, BodyEnd.ABANDONED)
            raise
        store_body(self._store, storing, body, stream.end)
        if body is None and not stream.joinable:
            self.remember(key)

    def _sharable(self, entry: StoredResponse | Draft) -> bool:
        """Whether one who asked before `entry` was there may have it without asking again (RFC 9111 §4)."""
        return self._monotonic() < entry.expires_at and not entry.rules.always_validate

    def _close(self, key: bytes, shared: SharedFetch) -> None:
        """Let nobody join any more."""
        if self._under_way.get(key) is shared:
            del self._under_way[key]


def leads(fetch: UpstreamFetch) -> bool:
    """Whether the answer to this request is one for others too: it asks for the whole, without own preconditions.

    A revalidation replaces the client's preconditions by the stored validators.
    """
    return bool(fetch.preconditions) or OUR_PRECONDITIONS.isdisjoint(fetch.keyed.head.headers.index)
