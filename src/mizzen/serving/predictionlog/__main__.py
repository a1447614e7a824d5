"""`python -m mizzen.serving.predictionlog`: waits until an endpoint is logged, and becomes the writer.

It imports next to nothing while there is nothing to do, so that a machine whose endpoints are not logged pays a few
megabytes for it. Then `process` takes its place.
"""

import os
import sys
import time
from pathlib import Path

from mizzen.kube.process import notify_ready
from mizzen.serving.predictionlog.arguments import arguments
from mizzen.serving.predictionlog.layout import SEGMENTS

LOOK_EVERY_S = 1.0


def main() -> None:
    """Does not return."""
    given = arguments()
    notify_ready()
    while not is_needed(given.folder, given.spool):
        time.sleep(LOOK_EVERY_S)
    os.execv(sys.executable, [sys.executable, "-m", "mizzen.serving.predictionlog.process", *sys.argv[1:]])  # noqa: S606 - our own interpreter


def is_needed(folder: Path, spool: Path) -> bool:
    """Whether an endpoint is logged, or something of one that was still waits."""
    return any(path.is_dir() for path in folder.glob("*")) or any(spool.glob(f"*/{SEGMENTS}"))


if __name__ == "__main__":
    main()
