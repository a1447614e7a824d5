"""A process that writes entries without end: `FOLDER SLOT BYTES_MAX`. It prints each number that is surely kept."""

import sys
import time
from pathlib import Path

from tests.serving.cache.builders import digest, entry

from mizzen.serving.gateway.cache.machine import MachineTier

tier = MachineTier(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
for number in range(1, 1_000_000):
    tier.write([(digest(number), entry(number % 200, expires_s=time.monotonic() + 1000))], time.monotonic())
    print(number, flush=True)
