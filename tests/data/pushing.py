"""A push server for tests: its surroundings from a file, its reports to another.

STORE=URL DATASET='{"metadata": …}' KEYS='{"key": "dataset"}' REPORTS=FILE python pushing.py
"""

import asyncio
import json
import os
import socket
from pathlib import Path

from mizzen.data.lake.objects import Store
from mizzen.data.push.directory import Verdict
from mizzen.data.push.server import PushServer, served
from mizzen.kinds import Dataset
from mizzen.kinds.data import LoadReport
from mizzen.kube.process import stop_on_signals


class Fixed:
    """A directory of one dataset."""

    def __init__(self, dataset: Dataset, keys: dict[str, str]) -> None:
        self.only, self.keys = dataset, keys

    def dataset(self, namespace: str, name: str) -> Dataset | None:
        return self.only if (namespace, name) == (self.only.namespace, self.only.name) else None

    def pushed_to(self) -> list[Dataset]:
        return [self.only]

    def judge(self, key: str | None, namespace: str, name: str) -> Verdict:
        if not key:
            return "no key"
        if key not in self.keys:
            return "unknown key"
        return "allowed" if self.keys[key] == name else "forbidden"


async def main() -> None:
    stop = stop_on_signals()
    directory = Fixed(Dataset.model_validate_json(os.environ["DATASET"]), json.loads(os.environ["KEYS"]))

    async def report(dataset: Dataset, told: LoadReport) -> None:
        with Path(os.environ["REPORTS"]).open("a") as file:
            file.write(told.model_dump_json(by_alias=True) + "\n")

    listening = socket.create_server(("127.0.0.1", 0))
    async with served(PushServer(Store.open(os.environ["STORE"]), directory, report), listening):
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
