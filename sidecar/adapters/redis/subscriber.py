"""The one subscription: it always comes back, and it notices when nobody is there any more."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from sidecar.adapters.redis.failure import CAUGHT, unavailable
from sidecar.pipeline.fleet.ports import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.adapters.redis.client import RedisClient

SILENCE = 5.0
"""Seconds without a message after which the server is asked for a sign of life, and that it may take to give one."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
FORBIDDEN_PAUSE = 30.0
"""Before trying again what the server does not allow."""


class Subscriber:
    """Tells `heard` of each message on `channel`."""

    def __init__(self, client: RedisClient, channel: str, heard: Callable[[bytes], None]) -> None:
        self._client = client
        self._channel = channel
        self._heard = heard
        self._pause = FIRST_PAUSE

    async def run(self) -> None:
        """For as long as the task lives, whatever happens."""
        while True:
            try:
                await self._listen()
            except StoreUnavailable as failure:
                self._failed(failure)
            except CAUGHT as error:
                self._failed(unavailable(error))
            # A hundred sidecars that lost the same server must not come back at the same moment.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _failed(self, failure: StoreUnavailable) -> None:
        self._client.trouble.failed(failure, "subscribe")
        if failure.kind == "permission":
            self._pause = FORBIDDEN_PAUSE

    async def _listen(self) -> None:
        """One subscription, until it breaks."""
        redis = await self._client.subscriber()
        pubsub = redis.pubsub()
        try:
            async with asyncio.timeout(SILENCE):
                await pubsub.subscribe(self._channel)
            asked = False
            while True:
                message = await pubsub.get_message(timeout=SILENCE)
                if message is not None:
                    asked = False
                    self._pause = FIRST_PAUSE
                    if message["type"] == "message":
                        self._heard(message["data"])
                elif asked:
                    raise TimeoutError("the subscription is dead")
                else:
                    asked = True
                    async with asyncio.timeout(SILENCE):
                        await pubsub.ping()
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await redis.aclose()
