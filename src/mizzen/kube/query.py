"""How selections and options are written into a request."""

from collections.abc import Mapping
from typing import Literal

from mizzen.kube.resources import Json

Selector = str | Mapping[str, str]
"""`"app=gateway,tier!=test"`, or `{"app": "gateway"}` where all are equalities."""
Propagation = Literal["Background", "Foreground", "Orphan"]


def selection(labels: Selector | None, fields: Selector | None) -> dict[str, str]:
    named = {"labelSelector": labels, "fieldSelector": fields}
    return {key: selector_text(selector) for key, selector in named.items() if selector}


def selector_text(selector: Selector) -> str:
    """A selector as the server reads it; the same text for equal mappings."""
    if isinstance(selector, str):
        return selector
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


def writing(field_manager: str | None, dry_run: bool = False) -> dict[str, str]:
    return ({"fieldManager": field_manager} if field_manager else {}) | ({"dryRun": "All"} if dry_run else {})


def goes_later(answer: Json) -> bool:
    """Whether what a deletion was answered with is an object that is still there: a server may also give the last
    state of one that is gone, or a `Status`.
    """
    meta = answer.get("metadata") or {}
    waits = meta.get("finalizers") or meta.get("deletionGracePeriodSeconds")
    return answer.get("kind") != "Status" and bool(meta.get("deletionTimestamp") and waits)


def delete_options(
    propagation: Propagation | None,
    uid: str | None,
    resource_version: str | None,
    grace_period_s: int | None,
    dry_run: bool,
) -> Json:
    wanted = {"uid": uid, "resourceVersion": resource_version}
    preconditions = {key: value for key, value in wanted.items() if value is not None}
    options = {
        "propagationPolicy": propagation,
        "gracePeriodSeconds": grace_period_s,
        "preconditions": preconditions or None,
        "dryRun": ["All"] if dry_run else None,
    }
    head = {"apiVersion": "v1", "kind": "DeleteOptions"}
    return head | {key: value for key, value in options.items() if value is not None}
