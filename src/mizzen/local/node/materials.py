"""What a Pod's containers are made from: ports, folders, volumes, the objects it refers to, its tokens.

Volumes of running Pods follow their sources: when a ConfigMap or Secret changes, when the Pod's labels or annotations
do, and when a token comes to 80 % of its life. What cannot be had anew (a Secret that was deleted) stays as it was.
"""

import asyncio
import logging
from collections.abc import Callable

from mizzen.local.node import mounts
from mizzen.local.node.environment import ConfigError
from mizzen.local.node.host import Host
from mizzen.local.node.podfolder import PodFolder
from mizzen.local.node.podspec import PodSpec
from mizzen.local.node.ports import NoFreePortError, choose
from mizzen.local.node.references import Sources, sources_of
from mizzen.local.node.tokens import TokenKeeper
from mizzen.local.node.volumes import MountError, Payload, payload, tokens_wanted

log = logging.getLogger(__name__)


class Materials:
    """Of one Pod. `run` keeps its volumes true."""

    def __init__(self, host: Host, folder: PodFolder, changed: Callable[[], None]) -> None:
        self._host, self._folder, self._tell = host, folder, changed
        self._tokens = TokenKeeper(host.client, host.clock, host.rng)
        self._refresh = asyncio.Event()
        self._open = True
        self._filling = asyncio.Lock()

    async def sources(self, pod: PodSpec) -> Sources:
        """The ConfigMaps and Secrets the Pod refers to, as they are now. Raises `ConfigError`."""
        wanted = sources_of(pod)
        if self._open:
            self._host.sources.hold(pod.uid, wanted, self._changed)
        return await self._host.sources.get(wanted)

    async def prepare(self, pod: PodSpec) -> None:
        """Chooses ports, makes folders, fills volumes. Can be done again. Raises `ConfigError`."""
        try:
            if self._folder.ports() is None:
                ports = choose(pod, self._host.options.address, self._host.ports_taken(), self._host.rng)
                await asyncio.to_thread(self._folder.decide, ports)
        except (NoFreePortError, OSError) as error:
            raise ConfigError(str(error), "FailedCreatePodSandBox") from error
        await self._fill(pod)

    async def run(self, pod: Callable[[], PodSpec]) -> None:
        """Until cancelled: volumes are filled anew when what they are made from changes."""
        while True:
            await self._wait()
            if not self._open:
                return
            try:
                await self._fill(pod())
            except ConfigError as error:
                log.warning("%s: volumes stay as they were: %s", pod().key, error)
                await asyncio.sleep(1.0)

    def refresh_soon(self) -> None:
        self._refresh.set()

    def close(self) -> None:
        """Nothing is needed any more: no sources, no tokens."""
        self._open = False
        self._host.sources.release(self._folder.uid)
        self._refresh.set()

    async def remove(self) -> None:
        """The Pod has ended: its volumes go, its secrets with them."""
        self.close()
        async with self._filling:
            await asyncio.to_thread(self._folder.remove_volumes)

    async def _wait(self) -> None:
        renew = self._tokens.renew
        timeout_s = None if renew is None else max(renew - self._host.clock().steady, 0.0)
        try:
            async with asyncio.timeout(timeout_s):
                await self._refresh.wait()
        except TimeoutError:
            return
        finally:
            self._refresh.clear()

    def _changed(self) -> None:
        self._tell()
        self._refresh.set()

    async def _fill(self, pod: PodSpec) -> None:
        async with self._filling:
            sources = await self.sources(pod)
            tokens = await self._tokens.get(pod, tokens_wanted(pod))
            facts = self._host.facts
            volumes = pod.spec.get("volumes") or ()
            payloads = {volume["name"]: payload(pod, volume, sources, tokens, facts) for volume in volumes}
            found = {name: files for name, files in payloads.items() if files is not None}
            if self._open and found:
                await asyncio.to_thread(self._write, found)

    def _write(self, found: dict[str, Payload]) -> None:
        for name, files in found.items():
            try:
                mounts.write_files(self._folder.volume(name), files)
            except OSError as error:
                raise MountError(name, str(error)) from error
