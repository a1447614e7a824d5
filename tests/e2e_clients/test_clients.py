"""Scripts written with the official client and with lightkube do their work on the embedded server."""

from collections.abc import Callable
from typing import Any

Run = Callable[[str], dict[str, Any]]


def test_the_official_client(run_script: Run) -> None:
    """Custom objects with watch and status, pages, conflicts, scale, events, reviews, discovery and apply."""
    found = run_script("official_client.py")
    assert found["tickets"] == {
        "seen": ["MODIFIED", "MODIFIED"],
        "spec": {"title": "t", "priority": 5},
        "status": {"phase": "Open"},
        "left": 0,
    }
    assert found["built_in"] == {
        "pages": [2, 2, 1],
        "conflict": 409,
        "replicas": 2,
        "events": ["Told"],
        "may": True,
    }
    assert found["applied"] == {"manager": "official", "data": {"a": "1"}}


def test_lightkube(run_script: Run) -> None:
    """A generic resource watched while it changes; apply with conflict and force; pages; an event."""
    found = run_script("lightkube_client.py")
    assert found["tickets"] == {
        "last": ["DELETED", "Open"],
        "spec": {"title": "t", "priority": 5},
        "status": {"phase": "Open"},
    }
    assert found["built_in"] == {
        "conflict": 409,
        "data": {"a": "2"},
        "listed": ["m0", "m1", "m2", "m3"],
        "told": "Told",
    }
