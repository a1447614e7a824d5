"""Sets of completion indexes, written as Kubernetes writes them in a Job's status: `0,3-5,7`."""

from collections.abc import Iterable

from mizzen.local.cluster.objects import Object, annotations_of

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"


def parse(text: str) -> set[int]:
    """The indexes in a text; parts that are none are passed over.

    >>> sorted(parse("0,3-5"))
    [0, 3, 4, 5]
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last.isdigit() or not last):
            found |= set(range(int(first), int(last or first) + 1))
    return found


def text_of(indexes: Iterable[int]) -> str:
    """The shortest text for a set of indexes.

    >>> text_of({5, 0, 4, 3})
    '0,3-5'
    """
    runs: list[tuple[int, int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def index_of(pod: Object) -> int | None:
    """The completion index of a Pod; `None` where it has none."""
    text = annotations_of(pod).get(COMPLETION_INDEX, "")
    return int(text) if text.isdigit() else None
