"""What a worker counts, and how it is told in Prometheus' text format."""

import resource
import sys
from pathlib import Path

import msgspec

_STATM = Path("/proc/self/statm")
_SMAPS = Path("/proc/self/smaps_rollup")
_STATUS = Path("/proc/self/status")


class Statistics(msgspec.Struct):
    """Counters since the start, and what stands now."""

    batches: int = 0
    rows: int = 0
    streams: int = 0
    """Streams ended, however they did."""
    parts: int = 0
    """Parts of streams."""
    failed: int = 0
    cancelled: int = 0
    compute_s: float = 0.0
    wait_s: float = 0.0
    """Seconds that batches lay here before they ran."""
    gateways: int = 0
    load_s: float = 0.0
    warm_up_s: float = 0.0
    warm_bytes: int = 0
    """Memory after the warm-up, as `Memory.proportional_bytes`."""


class Memory(msgspec.Struct, frozen=True, rename="camel"):
    """What this process takes of the machine's memory."""

    resident_bytes: int
    """All that is in RAM, what is shared with others too."""
    proportional_bytes: int
    """With each shared page counted by how many share it: what is gained when the process ends, or nearly. As
    `resident_bytes` where the system does not tell.
    """
    peak_bytes: int
    """`proportional_bytes`, and by how much more was resident at the most until now: while a model is loaded, its bytes
    and what is made of them are there together.
    """

    @classmethod
    def now(cls) -> "Memory":
        resident = resident_bytes()
        proportional = _kilobytes_in(_SMAPS, "Pss:") or resident
        most = _kilobytes_in(_STATUS, "VmHWM:") or resident
        return cls(resident, proportional, proportional + max(0, most - resident))


def resident_bytes() -> int:
    """Memory of this process that is in RAM; where the system does not say, the most it ever was."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _kilobytes_in(file: Path, name: str) -> int | None:
    """A number of kB that the kernel tells there, in bytes."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def exposition(statistics: Statistics, labels: dict[str, str], *, ready: bool, busy_s: float) -> str:
    """The metrics page."""
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    rows = (
        ("mizzen_worker_batches_total", "counter", "Batches run.", statistics.batches),
        ("mizzen_worker_rows_total", "counter", "Rows run.", statistics.rows),
        ("mizzen_worker_streams_total", "counter", "Streams ended.", statistics.streams),
        ("mizzen_worker_parts_total", "counter", "Parts of streams.", statistics.parts),
        ("mizzen_worker_batches_failed_total", "counter", "Batches that the runtime refused.", statistics.failed),
        ("mizzen_worker_batches_cancelled_total", "counter", "Batches given up unrun.", statistics.cancelled),
        ("mizzen_worker_compute_seconds_total", "counter", "Seconds in the runtime.", statistics.compute_s),
        ("mizzen_worker_wait_seconds_total", "counter", "Seconds batches lay here unrun.", statistics.wait_s),
        ("mizzen_worker_gateways", "gauge", "Gateways connected.", statistics.gateways),
        ("mizzen_worker_ready", "gauge", "1 while batches are taken.", int(ready)),
        ("mizzen_worker_busy_seconds", "gauge", "Age of the batch that runs now.", busy_s),
        ("mizzen_worker_load_seconds", "gauge", "Seconds to fetch, verify and load the model.", statistics.load_s),
        ("mizzen_worker_warm_up_seconds", "gauge", "Seconds of the warm-up.", statistics.warm_up_s),
        ("mizzen_worker_warm_memory_bytes", "gauge", "Memory after the warm-up.", statistics.warm_bytes),
        ("process_resident_memory_bytes", "gauge", "Memory in RAM.", resident_bytes()),
        ("process_cpu_seconds_total", "counter", "Processor seconds.", usage.ru_utime + usage.ru_stime),
    )
    lines: list[str] = []
    for name, kind, meaning, value in rows:
        lines += (f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", f"{name}{{{pairs}}} {value}")
    return "\n".join(lines) + "\n"
