"""A directory that is a JSON file: endpoints, workers and keys without a Kubernetes API.

    {"endpoints": [...], "workers": [...], "keys": {"name": {...}}, "views": [...]}

The entries are the values of `directory`. The file is looked at a few times a second and read when it has changed;
whoever writes it renames a complete one into place. A file that is not there or does not decode changes nothing, and is
told of in the log: what is known is served on.
"""

import asyncio
import logging
from pathlib import Path

import msgspec

from mizzen.serving.gateway.directory import ApiKey, Endpoint, Listener, View, Worker

log = logging.getLogger("mizzen.gateway")
LOOK_EVERY_S = 0.1


class Contents(msgspec.Struct, frozen=True):
    """What the file holds."""

    endpoints: list[Endpoint] = []
    workers: list[Worker] = []
    keys: dict[str, ApiKey] = {}
    views: list[View] = []


class FileDirectory:
    """Follows the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = Contents()

    async def run(self, listener: Listener) -> None:
        """Until cancelled."""
        seen: tuple[int, int, int] | None = None
        synced = False
        while True:
            now = self._stamp()
            if now is not None and now != seen:
                seen = now
                if self._read(listener) and not synced:
                    synced = True
                    listener.synced()
            await asyncio.sleep(LOOK_EVERY_S)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self, listener: Listener) -> bool:
        try:
            new = msgspec.json.decode(self._path.read_bytes(), type=Contents, dec_hook=_path)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s: %s", self._path, error)
            return False
        old, self._told = self._told, new
        for name, key in new.keys.items():
            if old.keys.get(name) != key:
                listener.key_changed(name, key)
        for name in old.keys.keys() - new.keys.keys():
            listener.key_gone(name)
        for worker in new.workers:
            if worker not in old.workers:
                listener.worker_changed(worker)
        for uid in {worker.uid for worker in old.workers} - {worker.uid for worker in new.workers}:
            listener.worker_gone(uid)
        for view in new.views:
            if view not in old.views:
                listener.view_changed(view)
        for name_key in {view.key for view in old.views} - {view.key for view in new.views}:
            listener.view_gone(name_key)
        for endpoint in new.endpoints:
            if endpoint not in old.endpoints:
                listener.endpoint_changed(endpoint)
        for name_key in {endpoint.key for endpoint in old.endpoints} - {endpoint.key for endpoint in new.endpoints}:
            listener.endpoint_gone(name_key)
        return True


def _path(type_: type, value: object) -> object:
    if type_ is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError
