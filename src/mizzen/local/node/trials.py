"""Trying the probes and hooks of one Pod's containers: where they are found, and how a command is run beside one."""

from mizzen.local.node.attempts import Attempt, Launch
from mizzen.local.node.containers import Containers
from mizzen.local.node.environment import ConfigError
from mizzen.local.node.host import Host
from mizzen.local.node.materials import Materials
from mizzen.local.node.podspec import ContainerSpec, Json, PodSpec
from mizzen.local.node.ports import bound_port
from mizzen.local.node.probing import Answer, Target, attempt


class Trials:
    """Remembers how each container was started: what is run beside it gets the same environment and bounds."""

    def __init__(self, host: Host, containers: Containers, materials: Materials) -> None:
        self._host, self._containers, self._materials = host, containers, materials
        self._launches: dict[str, Launch] = {}

    def begun(self, container: str, launch: Launch) -> None:
        """A container was started so."""
        self._launches[container] = launch

    async def attempt(
        self, pod: PodSpec, spec: ContainerSpec, running: Attempt, action: Json, timeout_s: float
    ) -> Answer:
        """Tries a probe or a hook once. Never raises: whatever goes wrong is the answer."""
        try:
            launch = await self._launch(pod, spec, running)
        except ConfigError as error:
            return Answer(False, str(error))
        ports = self._containers.folder.ports() or {}
        target = Target(self._host.options.address, lambda port: bound_port(pod, ports, port), launch)
        return await attempt(action, target, timeout_s)

    async def _launch(self, pod: PodSpec, spec: ContainerSpec, running: Attempt) -> Launch:
        """Raises `ConfigError`, where a container was taken back whose environment cannot be made any more."""
        launch = self._launches.get(spec.name)
        if launch is None:
            sources = await self._materials.sources(pod)
            launch = self._launches[spec.name] = self._containers.inside(pod, spec, running, sources)
        return launch
