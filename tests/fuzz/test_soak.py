"""Memory is flat: the serving benchmark's soak, a million requests of it. `MIZZEN_SOAK_REQUESTS=10000000` asks for ten."""

import os
import shutil

import pytest
from benchmarks.serving.soak import run

REQUESTS = int(os.environ.get("MIZZEN_SOAK_REQUESTS", "1000000"))
GROWTH_MIB_MAX = {"gateway": 8.0, "workers": 8.0, "log writer": 64.0}
"""What allocators keep differs by a few from one moment to another; the log's writer holds a commit's rows, more or less."""
TOOLS = ("wrk", "h2load")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {' and '.join(TOOLS)}")
def test_memory_is_flat_over_a_million_requests():
    rows = {row["what"]: row["value"] for row in run(REQUESTS)}
    grown = {role: rows[f"{role}: memory after"] - rows[f"{role}: memory before"] for role in GROWTH_MIB_MAX}
    assert all(rows[f"{role}: memory before"] > 10 for role in GROWTH_MIB_MAX), rows
    assert {role: mib for role, mib in grown.items() if mib > GROWTH_MIB_MAX[role]} == {}, rows
