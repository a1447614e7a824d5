"""Answers put where an endpoint's gateways look first: "nightly batch, then cache".

Each answered row becomes an entry of the response cache that the endpoint's gateways share (Redis), as it would be
after a request of that row alone by each of the callers named: a cache never gives one caller what another asked for.
Entries are those of the gateways to the byte (`serving.gateway.cache`), so a request is answered from them whatever its
protocol, for as long as the endpoint's `spec.cache.ttl` says, and as long as it serves that model version.

A group's answers are put there before they are kept, so that a run that is killed leaves none out. A cache that is away
costs the run nothing but what it would have put there: that is counted, and said in the log.
"""

import logging
import time
from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mizzen.serving.batch.encoding import Refused
from mizzen.serving.batch.task import BatchTask
from mizzen.serving.gateway.cache.entry import entry_of, packed
from mizzen.serving.gateway.cache.key import digest_of_key, key_of, place_of
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.tensors import Tensor, row_slices

log = logging.getLogger("mizzen.batch")
PIPELINE = 512
"""Entries of one trip to the server."""
TIMEOUT_S = 10.0


class CacheFilling:
    """Puts the answers of one run into one endpoint's cache."""

    def __init__(self, task: BatchTask, url: str, wall: Callable[[], float] = time.time) -> None:
        """Raises `ValueError` for a URL that is none of Redis."""
        assert task.cache is not None, "it is asked for"
        self._redis: Redis = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._cache, self._digest = task.cache, task.model.digest
        self._namespace = task.namespace
        self._outputs = tuple(tensor.name for tensor in task.signature.outputs)
        self._wall = wall
        self.entries = 0
        """That were put there."""
        self.lost = 0
        """That were not, since the cache was away."""

    async def fill(
        self, inputs: Sequence[Tensor], rows: int, answers: Sequence[Sequence[Tensor]], refused: Refused
    ) -> None:
        """Of the `rows` of `inputs`, those that were not refused have the `answers`, in order."""
        asked = list(zip(*(row_slices(tensor, [1] * rows) for tensor in inputs), strict=True))
        answered = [row for place, row in enumerate(asked) if place not in refused]
        given = [row for outputs in answers for row in self._rows(outputs)]
        pairs = list(zip(answered, given, strict=True))
        for start in range(0, len(pairs), PIPELINE):
            await self._put(pairs[start : start + PIPELINE])

    async def close(self) -> None:
        """Ends the connection, and says what became of it."""
        await self._redis.aclose()
        log.info("the cache of endpoint %s has %d entries more", self._cache.endpoint, self.entries)
        if self.lost:
            log.warning("the cache did not take %d entries", self.lost)

    def _rows(self, outputs: Sequence[Tensor]) -> Sequence[Sequence[Tensor]]:
        """One answer after the other, its outputs in the signature's order."""
        by_name = {tensor.name: tensor for tensor in outputs}
        slices = [row_slices(by_name[name], [1] * by_name[name].shape[0]) for name in self._outputs]
        return list(zip(*slices, strict=True))

    async def _put(self, pairs: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]]) -> None:
        ttl_ms = max(1, round(self._cache.ttl_s * 1000))
        expires_s = self._wall() + self._cache.ttl_s
        count = len(pairs) * len(self._cache.callers)
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for inputs, outputs in pairs:
                    for caller in self._cache.callers:
                        request = InferenceRequest([_whole(tensor) for tensor in inputs], 1)
                        key = key_of(caller, self._digest, self._outputs, request)
                        place = place_of(self._namespace, self._cache.endpoint, self._digest, digest_of_key(key))
                        pipeline.set(place, packed(entry_of(key, self._digest, outputs, expires_s)), px=ttl_ms)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            if not self.lost:
                log.warning("the cache does not take answers now: %r", error)
            self.lost += count
        else:
            self.entries += count


def _whole(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data))
