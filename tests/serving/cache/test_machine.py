"""The tier of one machine: real LMDB, real processes, killed and damaged."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.serving.cache.builders import caching, digest, entry
from tests.serving.played import Stage, endpoint, turn

from mizzen.serving.gateway.cache.machine import MachineCache, MachineTier
from mizzen.serving.gateway.cache.responses import Tiers
from mizzen.serving.gateway.gateway import Gateway

ROOT = Path(__file__).parents[3]
MODEL = entry().model_digest
BIG = 1 << 20


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="mz-"))
    yield made / "m"
    shutil.rmtree(made)


def in_another_process(folder: Path, slot: int, script: str) -> str:
    """What `script` prints, which has a `tier` of the same folder."""
    whole = (
        "import sys; from pathlib import Path; from mizzen.serving.gateway.cache.machine import MachineTier\n"
        "from tests.serving.cache.builders import digest, entry\n"
        f"tier = MachineTier(Path(sys.argv[1]), {slot}, {BIG})\n{script}\ntier.close()"
    )
    run = subprocess.run(
        [sys.executable, "-c", whole, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_what_one_process_keeps_another_finds(folder):
    tier = MachineTier(folder, 0, BIG)
    tier.write([(digest(1), entry(1))], 0.0)
    assert in_another_process(folder, 1, "print(tier.get(digest(1), entry().model_digest, 1.0) == entry(1))") == "True"
    tier.close()


def test_entries_end_and_are_replaced_and_freed_with_their_model(folder):
    tier = MachineTier(folder, 0, BIG)
    other = "sha256:" + "cd" * 32
    tier.write([(digest(1), entry(1, expires_s=10)), (digest(2), entry(2, model=other))], 0.0)
    tier.write([(digest(1), entry(3, expires_s=20))], 0.0)
    assert tier.get(digest(1), MODEL, 15.0) == entry(3, expires_s=20)
    assert tier.get(digest(1), MODEL, 21.0) is None
    assert tier.get(digest(1), other, 1.0) is None
    tier.keep_models({other})
    assert tier.get(digest(1), MODEL, 15.0) is None
    assert tier.get(digest(2), other, 15.0) == entry(2, model=other)
    tier.write([], 200.0)
    assert tier.bytes_used == 0
    tier.close()


@pytest.mark.parametrize("size", [10, 3000, 60_000])
def test_it_stays_within_its_size_and_keeps_the_newest(folder, size):
    tier = MachineTier(folder, 0, BIG)
    for first in range(0, 2000, 50):
        made = [(digest(n), entry(n % 200, size=size, expires_s=1000.0 + n)) for n in range(first, first + 50)]
        tier.write(made, 0.0)
        assert tier.bytes_used <= BIG
    assert tier.healed == 0
    assert tier.get(digest(1999), MODEL, 0.0) is not None
    assert (tier.get(digest(0), MODEL, 0.0) is None) == (2000 * size > BIG)
    tier.close()


def test_what_is_too_large_is_not_kept(folder):
    tier = MachineTier(folder, 0, BIG)
    tier.write([(digest(1), entry(1, size=BIG // 4)), (digest(2), entry(2))], 0.0)
    assert tier.get(digest(1), MODEL, 0.0) is None
    assert tier.get(digest(2), MODEL, 0.0) is not None
    tier.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_leaves_what_it_committed_and_holds_nobody_up(folder, seed):
    """A sibling reads and writes on, at once, though the killed one may have held the lock."""
    sibling = MachineTier(folder, 1, BIG)
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.cache.writer", str(folder), "0", str(BIG)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout is not None
    last = 0
    for _ in range(random.Random(seed).randrange(5, 200)):
        last = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    now = time.monotonic()
    assert sibling.get(digest(last), MODEL, now) is not None
    sibling.write([(digest(10**7), entry(5, expires_s=now + 100))], now)
    assert sibling.get(digest(10**7), MODEL, now) is not None
    assert sibling.healed == 0
    script = "tier.write([(digest(8), entry(8, expires_s=1e9))], 0.0); print(tier.healed)"
    assert in_another_process(folder, 0, script) == "1", "nobody knows what the predecessor died of"
    sibling.write([], now)
    assert sibling.get(digest(8), MODEL, now) is not None, "the sibling has followed to the new one"
    sibling.close()


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "head", "gone"])
def test_what_was_damaged_is_begun_anew(folder, damage):
    tier = MachineTier(folder, 0, BIG)
    tier.write([(digest(n), entry(n, size=5000)) for n in range(50)], 0.0)
    tier.close()
    data = folder / "0" / "data.mdb"
    if damage == "cut":
        os.truncate(data, data.stat().st_size // 2)
    elif damage == "empty":
        os.truncate(data, 0)
    elif damage == "garbage":
        data.write_bytes(os.urandom(data.stat().st_size))
    elif damage == "head":
        with data.open("r+b") as file:
            file.write(b"\xff" * 8192)
    else:
        data.unlink()
    again = MachineTier(folder, 0, BIG)
    again.write([(digest(1), entry(1))], 0.0)
    assert again.get(digest(1), MODEL, 0.0) == entry(1)
    again.close()


def test_a_damaged_value_is_no_answer(folder):
    tier = MachineTier(folder, 0, BIG)
    tier.write([(digest(1), entry(7, size=5000))], 0.0)
    tier.close()
    data = folder / "0" / "data.mdb"
    raw = bytearray(data.read_bytes())
    place = raw.index(b"\x07" * 1000) + 500
    raw[place] = 9
    data.write_bytes(raw)
    again = MachineTier(folder, 0, BIG)
    assert again.get(digest(1), MODEL, 0.0) is None
    again.close()


def test_the_thread_keeps_what_it_is_handed_and_ends_in_order(folder):
    cache = MachineCache(folder, 0, time.monotonic)
    tier = cache.tier("default", "m", BIG)
    soon = time.monotonic() + 100
    for number in range(600):
        cache.put(tier, digest(number), entry(number % 200, size=10, expires_s=soon))
    cache.close()
    again = MachineCache(folder, 0, time.monotonic)
    tier = again.tier("default", "m", BIG)
    assert sum(tier.get(digest(number), MODEL, 0.0) is not None for number in range(600)) == 600
    assert (cache.dropped, tier.healed) == (0, 0)
    again.forget("default", "m")
    again.close()
    assert not (folder / "default.m").exists()


@pytest.mark.looptime
async def test_a_second_process_answers_from_what_the_first_computed(folder):
    loop, stages, caches = asyncio.get_running_loop(), [], []
    for slot in range(2):
        stage = Stage()
        cache = MachineCache(folder, slot, loop.time)
        stage.gateway = Gateway(loop.time, connect=stage._linked, tiers=Tiers(loop.time, machine=cache))
        stage.gateway.endpoint_changed(endpoint(cache=caching(machine_bytes_max=BIG)))
        stages.append(stage)
        caches.append(cache)
        if slot == 0:
            link = stage.worker()
            stage.call(1.0)
            await turn()
            link.answer()
            cache.close()
    call = stages[1].call(1.0)
    assert call.reply.values == [2.0]
    assert stages[1].gateway.measures["default", "m"].cache == {"machine": 1}
    assert stages[1].call(1.0).reply.values == [2.0]
    assert stages[1].gateway.measures["default", "m"].cache == {"machine": 1, "memory": 1}
    caches[1].close()
