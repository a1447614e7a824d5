"""Leader election by a Lease, by the rules of client-go, so that candidates in Go and Python can share one.

The holder renews the Lease. Another may take it once it has seen it unchanged for the Lease's duration, *by its own
clock since it saw it*: the times written in the Lease are for people, and clocks that disagree do no harm. The holder
stops leading `renew_deadline_s` after it began its last successful renewal, which is before anyone else may start.

    looking ──(free, expired, or mine)──► leading ──renewals fail too long, or another holds it──► LeadershipLost
                                             └── the work ends ──► released, free at once for the next
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from mizzen.kube.client import Client
from mizzen.kube.clock import Clock, utc_now
from mizzen.kube.errors import ApiError, KubeError, NotFound

log = logging.getLogger(__name__)


class LeadershipLost(KubeError):
    """The Lease could not be renewed in time, or another holds it. The work was stopped first."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """When to renew and when to give up; client-go's numbers."""

    duration_s: float = 15.0
    """How long others wait after the last renewal they saw."""
    renew_deadline_s: float = 10.0
    """How long the holder leads after its last renewal. The difference to the duration is for stopping the work."""
    retry_s: float = 2.0
    """Between tries, to acquire or to renew."""

    def __post_init__(self) -> None:
        if not self.duration_s > self.renew_deadline_s > self.retry_s > 0:
            raise ValueError(
                "expected duration_s > renew_deadline_s > retry_s > 0, got "
                f"{self.duration_s}, {self.renew_deadline_s}, {self.retry_s}"
            )


@dataclass(frozen=True, slots=True)
class ElectionStatistics:
    """Who leads, as last seen."""

    identity: str
    leading: bool
    holder: str
    transitions: int


class Election:
    """One candidate for one Lease. `identity` must differ between candidates, processes of one machine too."""

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str,
        identity: str,
        *,
        times: LeaseTimes | None = None,
        clock: Clock = utc_now,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._name, self._namespace, self._identity = name, namespace, identity
        self._times = times or LeaseTimes()
        self._clock = clock
        self._rng = rng
        self._seen: Lease | None = None
        self._seen_at_s = 0.0
        """When the Lease was first seen as it is, by our own clock."""
        self._leading = False

    def statistics(self) -> ElectionStatistics:
        spec = self._spec()
        return ElectionStatistics(self._identity, self._leading, spec.holderIdentity or "", spec.leaseTransitions or 0)

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Waits to become the leader, then runs `lead` for as long as that lasts.

        Returns when `lead` does. Raises `LeadershipLost`, after `lead` was cancelled and has ended.
        """
        renewed_at_s = await self._acquire()
        self._leading = True
        log.info("%s leads %s/%s", self._identity, self._namespace, self._name)
        work = asyncio.ensure_future(lead())
        keeping = asyncio.ensure_future(self._keep(renewed_at_s))
        try:
            await asyncio.wait({work, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            # The Lease is kept up while the work winds down; where it is lost, only the work is waited for.
            await asyncio.wait({work})
            keeping.cancel()
            await asyncio.wait({keeping})
            self._leading = False
            if keeping.cancelled():
                await self._release()
        if not keeping.cancelled():
            keeping.result()
        if not work.cancelled():
            work.result()

    async def _acquire(self) -> float:
        """Returns when the renewal that made us leader began."""
        while True:
            began_s = self._now_s()
            try:
                mine = await self._try(may_take=True)
                # An answer that took so long says nothing about now.
                if mine and self._now_s() < began_s + self._times.renew_deadline_s:
                    return began_s
            except KubeError as error:
                log.debug("%s/%s: cannot look at the lease: %s", self._namespace, self._name, error)
            await asyncio.sleep(self._times.retry_s * (1.0 + 0.2 * self._rng()))

    async def _keep(self, renewed_at_s: float) -> None:
        while True:
            deadline_s = renewed_at_s + self._times.renew_deadline_s
            await asyncio.sleep(min(self._times.retry_s, deadline_s - self._now_s()))
            began_s = self._now_s()
            try:
                async with asyncio.timeout_at(deadline_s):
                    mine = await self._try(may_take=False)
            except KubeError as error:
                if self._now_s() >= deadline_s:
                    raise LeadershipLost(f"{self._namespace}/{self._name}: not renewed in time: {error}") from error
                continue
            except TimeoutError as error:
                raise LeadershipLost(f"{self._namespace}/{self._name}: not renewed in time: no answer") from error
            if not mine:
                holder = self._spec().holderIdentity
                raise LeadershipLost(f"{self._namespace}/{self._name}: now held by {holder or 'nobody'}")
            renewed_at_s = began_s

    async def _try(self, *, may_take: bool) -> bool:
        """One look and, where it is ours or free to take, one write. Whether the Lease is ours now."""
        try:
            found = await self._client.get(Lease, self._name, self._namespace)
        except NotFound:
            if not may_take:
                return False
            self._see(await self._client.create(self._new()))
            return True
        self._see(found)
        if not self._is_mine() and not (may_take and self._is_free()):
            return False
        self._see(await self._client.replace(self._renewed(found)))
        return True

    async def _release(self) -> None:
        """Lets the next candidate start at once. If it fails, the Lease runs out."""
        held = self._seen
        if held is None or not self._is_mine():
            return
        now = self._clock()
        spec = LeaseSpec(
            holderIdentity="", leaseDurationSeconds=1, acquireTime=now, renewTime=now,
            leaseTransitions=self._spec().leaseTransitions,
        )  # fmt: skip
        try:
            self._see(await self._client.replace(Lease(metadata=held.metadata, spec=spec)))
        except ApiError as error:
            log.info("%s/%s: not released: %s", self._namespace, self._name, error)

    def _see(self, lease: Lease) -> None:
        """The Lease's owner shows life by changing it: what counts is when we saw the change."""
        if self._seen is None or self._seen.spec != lease.spec:
            self._seen_at_s = self._now_s()
        self._seen = lease

    def _spec(self) -> LeaseSpec:
        return (self._seen.spec if self._seen else None) or LeaseSpec()

    def _is_mine(self) -> bool:
        return self._spec().holderIdentity == self._identity

    def _is_free(self) -> bool:
        spec = self._spec()
        if not spec.holderIdentity:
            return True
        return self._now_s() >= self._seen_at_s + (spec.leaseDurationSeconds or self._times.duration_s)

    def _new(self) -> Lease:
        metadata = ObjectMeta(name=self._name, namespace=self._namespace)
        return Lease(metadata=metadata, spec=self._spec_from(self._clock(), 0))

    def _renewed(self, found: Lease) -> Lease:
        old = found.spec or LeaseSpec()
        transitions = old.leaseTransitions or 0
        if self._is_mine() and old.acquireTime is not None:
            return Lease(metadata=found.metadata, spec=self._spec_from(old.acquireTime, transitions))
        return Lease(metadata=found.metadata, spec=self._spec_from(self._clock(), transitions + 1))

    def _spec_from(self, acquired: datetime, transitions: int) -> LeaseSpec:
        return LeaseSpec(
            holderIdentity=self._identity,
            leaseDurationSeconds=math.ceil(self._times.duration_s),
            acquireTime=acquired,
            renewTime=self._clock(),
            leaseTransitions=transitions,
        )

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
