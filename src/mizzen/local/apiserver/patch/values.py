"""JSON values compared as Kubernetes compares them."""

from typing import Any, Final


class _Absent:
    """A field that is not there, as opposed to one that is null."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def same(left: Any, right: Any) -> bool:
    """Deep equality in which 1 equals 1.0 but not true.

    Python's own `==` holds true for `1 == True`, which would let a change from a number to a boolean go unseen.
    """
    if left is right:
        return True
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and len(left) == len(right)
            and all(key in right and same(value, right[key]) for key, value in left.items())
        )
    if isinstance(left, list):
        return (
            isinstance(right, list)
            and len(left) == len(right)
            and all(same(one, other) for one, other in zip(left, right, strict=True))
        )
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)
