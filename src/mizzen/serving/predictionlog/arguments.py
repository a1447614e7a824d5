"""What the writer is told, by its two beginnings alike."""

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Arguments:
    """See the options' help."""

    folder: Path
    spool: Path
    store: str | None
    kubeconfig: str | None
    seal_after_s: float
    segment_bytes: int
    spool_bytes: int


def arguments() -> Arguments:
    """Ends the process where they make no sense."""
    parser = argparse.ArgumentParser(
        "mizzen.serving.predictionlog", description="Brings what gateways log of requests to Delta tables."
    )
    parser.add_argument("--folder", type=Path, required=True, help="the gateways' --log-dir")
    parser.add_argument("--spool", type=Path, required=True, help="where records wait for the store: on a disk")
    parser.add_argument("--store", help="URL of the store; default: storeUrl of the ConfigMap mizzen-system/mizzen")
    parser.add_argument("--kubeconfig", help="the API server to report to; default: as kubectl finds it")
    parser.add_argument("--seal-after", type=float, default=10.0, help="seconds that a record waits for a commit")
    parser.add_argument("--segment-bytes", type=int, default=16 << 20, help="records that make a commit at once")
    parser.add_argument("--spool-bytes", type=int, default=1 << 30, help="of each endpoint, at most")
    given = parser.parse_args()
    return Arguments(
        given.folder, given.spool, given.store, given.kubeconfig, given.seal_after, given.segment_bytes,
        given.spool_bytes,
    )  # fmt: skip
