"""What was added to a table between two of its versions, as files to read; for readers that keep up with it.

A reader that has read a version needs only the rows that came since, as long as loads appended. Appending may also
write many small files together into one (`changes.compacted`), which takes files away and no rows: the reader then
reads what came before at the version before, where it lies in files of its own. Where rows went or changed, there is no
telling what to add, and the table is read anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mizzen.data.lake import log
from mizzen.data.lake.errors import ObjectMissing, VersionMissing
from mizzen.data.lake.log import DataFile
from mizzen.data.lake.tables import Table
from mizzen.data.lake.version import TableVersion


@dataclass(frozen=True, slots=True)
class Step:
    """Files to read, in order, at a version that has them all; after them, the reader has that whole version."""

    version: TableVersion
    files: Sequence[DataFile]


def growth(table: Table, since: int, target: TableVersion) -> list[Step] | None:
    """The steps from a version that was read whole to a later one; `None` where rows went or changed in between.

    Raises `StoreUnavailable`.
    """
    steps: list[Step] = []
    waiting: list[str] = []
    try:
        for version in range(since + 1, target.version + 1):
            actions = log.read_entry(table.store, table.path, version)
            added = [action["add"] for action in actions if "add" in action]
            if not any("remove" in action for action in actions):
                waiting += [add["path"] for add in added]
                continue
            new = [add for add in added if add["path"].startswith(f"{version:08d}-")]
            before, after = table.at(version - 1), table.at(version)
            if not _only_compacted(actions, before, after, new):
                return None
            if waiting:
                steps.append(_step(before, waiting))
            waiting = [add["path"] for add in new]
            if waiting and version < target.version:  # the next compaction may take them
                steps.append(_step(after, waiting))
                waiting = []
        if waiting or since < target.version:
            steps.append(_step(target, waiting))
    except (ObjectMissing, VersionMissing):  # retention has taken what lies between
        return None
    return steps


def _only_compacted(
    actions: Sequence[dict[str, Any]], before: TableVersion, after: TableVersion, new: Sequence[dict[str, Any]]
) -> bool:
    """Whether a commit that took files away kept every row: it is ours, appended, and no row is missing."""
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    if log.RUN not in info or str(info.get("operation", "")).lower() != "append":
        return False
    paths = {add["path"] for add in new}
    added = sum(file.rows for file in after.files if file.path in paths)
    return after.rows == before.rows + added


def _step(version: TableVersion, paths: Sequence[str]) -> Step:
    wanted = set(paths)
    return Step(version, [file for file in version.files if file.path in wanted])
