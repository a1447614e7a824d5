"""Versions that are no longer kept, and the files that go with them.

Which versions go is decided with each load and written in its commit: from then on they cannot be read, and only then
are their files deleted. A sweep that is killed is taken up by the next load's, from where the mark says it ended.
"""

import json
from urllib.parse import unquote

from mizzen.data.lake import log
from mizzen.data.lake.errors import ObjectMissing
from mizzen.data.lake.tables import Table
from mizzen.data.lake.version import TableVersion

_MARK = "_mizzen/swept.json"


def oldest_to_keep(
    table: Table, base: TableVersion | None, *, versions: int | None, age_ms: int | None, now_ms: int
) -> int | None:
    """The oldest version to keep once the next one is made; `None` where nothing changes.

    A version goes when it is neither among the newest `versions` (the next one counted) nor younger than `age_ms`;
    what is not given keeps nothing by itself, and both absent keep everything. The newest two stay in any case: one is
    being read when the next appears.
    """
    if base is None or (versions is None and age_ms is None):
        return None
    present = table.oldest()
    by_count = base.version + 2 - versions if versions is not None else base.version
    oldest = present
    while oldest < min(by_count, base.version):
        # A version is as young as the moment until which it was the newest.
        until_ms = int(log.commit_info(table.store, table.path, oldest + 1)["timestamp"])
        if age_ms is not None and now_ms - until_ms <= age_ms:
            break
        oldest += 1
    return oldest if oldest > present else None


def sweep(table: Table) -> int:
    """Deletes the files of versions that are no longer kept; how many. Safe to repeat and to kill."""
    oldest, newest = table.oldest(), table.at().version
    swept = _swept(table)
    if swept >= oldest:
        return 0
    needed = {file.path for file in table.at(oldest).files}
    for version in range(oldest + 1, newest + 1):
        needed.update(_paths(table, version, "add"))
    gone: set[str] = set()
    for version in range(swept + 1, oldest + 1):
        gone.update(_paths(table, version, "remove"))
    for path in sorted(gone - needed):
        table.store.delete(f"{table.path}/{unquote(path)}")
    table.store.put(f"{table.path}/{_MARK}", json.dumps({"oldest": oldest}).encode())
    return len(gone - needed)


def _swept(table: Table) -> int:
    """The oldest version as of the last sweep."""
    try:
        return int(json.loads(table.store.get(f"{table.path}/{_MARK}"))["oldest"])
    except ObjectMissing:
        return 1


def _paths(table: Table, version: int, action: str) -> list[str]:
    entry = log.read_entry(table.store, table.path, version)
    return [each[action]["path"] for each in entry if action in each]
