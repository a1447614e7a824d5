"""How far an endpoint's records are: what the writer says of it, brought up to date by whoever looks.

The counts of the rings are read where they are kept, in the rings, so they are right while no writer runs.
"""

from pathlib import Path

import msgspec

from mizzen.serving.predictionlog.layout import RING_ENDING, WRITTEN, endpoint_of
from mizzen.serving.predictionlog.ring import counts_of


class Written(msgspec.Struct):
    """What became of an endpoint's records; kept in a file for the gateway's metrics."""

    namespace: str
    endpoint: str
    committed: int = 0
    """Records that this writer has brought to the table since it started."""
    lost: int = 0
    """Records that found no room in their ring, ever, by any gateway process, and those that no table can take."""
    lost_before: int = 0
    """Those of them that rings which are there do not count."""
    events_lost: int = 0
    waiting_bytes: int = 0
    """In rings and spool."""
    spool_bytes: int = 0
    commits: int = 0
    committed_at_s: float = 0.0
    """Wall clock; 0: not yet."""
    trouble: str = ""
    """Why the table does not take records now."""


def progress(folder: Path) -> Written:
    """As of now."""
    try:
        found = msgspec.json.decode((folder / WRITTEN).read_bytes(), type=Written)
    except (OSError, msgspec.MsgspecError):  # no writer yet
        found = Written(*endpoint_of(folder))
    counts = [counts_of(path) for path in folder.glob(f"*{RING_ENDING}")]
    found.lost = found.lost_before + sum(lost for lost, _ in counts)
    found.waiting_bytes = found.spool_bytes + sum(waiting for _, waiting in counts)
    return found
