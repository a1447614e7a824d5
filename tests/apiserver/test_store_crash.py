"""Kill -9 of a writer at any moment: every write it was told of is there, whole, and nothing is given twice."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mizzen.local.apiserver.store import Store

WRITER = """
import asyncio, sys
from pathlib import Path
from mizzen.local.apiserver.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    print("ready", flush=True)
    number = 0
    while True:
        names = [f"x{number + i}" for i in range(8)]
        number += 8
        writes = [
            store.create(("", "pods"), "a", name, {"metadata": {"name": name}, "data": name * 100}) for name in names
        ]
        for name, write in zip(names, writes):
            record = await write
            print(name, record.revision, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 40, 200])
async def test_nothing_acknowledged_is_lost(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "store.db"
    told: dict[str, int] = {}
    for round_number in range(2):  # the second round starts from what the first left behind
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER.replace("x{", f"r{round_number}-{{"), path], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(acknowledged):
            name, revision = writer.stdout.readline().split()
            assert int(revision) not in told.values(), "a revision is given once"
            told[name] = int(revision)
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read()
        writer.stdout.close()
        writer.wait()
        complete = [line.split() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        told |= {name: int(revision) for name, revision in complete}
    store = await asyncio.to_thread(Store, path)
    records = {record.name: record for record in store.records(("", "pods"))}
    for name, revision in told.items():
        assert records[name].revision == revision
        assert records[name].object()["data"] == name * 100
    revisions = [record.revision for record in records.values()]
    assert len(set(revisions)) == len(revisions)
    made = await store.create(("", "pods"), "a", "new", {"metadata": {"name": "new"}})
    assert made.revision > max(revisions)
    await store.close()
