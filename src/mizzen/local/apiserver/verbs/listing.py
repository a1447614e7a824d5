"""Get and list.

A list is of one moment: the newest, or with `continue` and `resourceVersionMatch=Exact` an earlier one that history
still reaches. A continue token names that moment and the last object given, and is the same text as Kubernetes'.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import BadRequest, Cause, Expired, NotFound, Timeout
from mizzen.local.apiserver.fields import reader, refusal, stored_field
from mizzen.local.apiserver.request import Query
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.selectors import FieldTerm, Selection, parse_fields, parse_labels
from mizzen.local.apiserver.store import Record, Store
from mizzen.local.apiserver.store.collection import between
from mizzen.local.apiserver.store.records import Name
from mizzen.local.apiserver.types import Json, qualified
from mizzen.local.apiserver.verbs.context import Context, Many, One

_TOO_OLD_TO_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def not_found(served: Served, name: str) -> NotFound:
    group, plural = served.rtype.key
    return NotFound(f'{qualified(served.rtype.key)} "{name}" not found', name=name, group=group, kind=plural)


def get(context: Context, served: Served, namespace: str, name: str, query: Query) -> One:
    if query.get("resourceVersion"):
        _not_older_than(context.store, revision_of(query.get("resourceVersion")))
    record = context.store.get(served.key, namespace, name)
    if record is None:
        raise not_found(served, name)
    return One(served, record)


def selection(served: Served, namespace: str, query: Query) -> Selection:
    """What a list, watch or deletecollection is of."""
    fields = parse_fields(query.get("fieldSelector"), lambda name: refusal(served, name))
    return Selection(
        namespace=namespace or None,
        labels=parse_labels(query.get("labelSelector")),
        fields=tuple(FieldTerm(stored_field(served, term.field), term.equal, term.value) for term in fields),
    )


class Matcher:
    """Whether a record is selected; made once for a list or watch."""

    __slots__ = ("_read", "_selection")

    def __init__(self, served: Served, chosen: Selection) -> None:
        self._selection = chosen
        self._read = reader(served)

    def __call__(self, record: Record) -> bool:
        chosen = self._selection
        if chosen.namespace is not None and record.namespace != chosen.namespace:
            return False
        for term in chosen.fields:
            if (self._read(record, term.field) == term.value) is not term.equal:
                return False
        return all(requirement.matches(record.labels) for requirement in chosen.labels)


def list_objects(context: Context, served: Served, namespace: str, query: Query) -> Many:
    _check_options(query)
    store, collection = context.store, context.store.collection(served.key)
    chosen = selection(served, namespace, query)
    limit = query.integer("limit") or 0
    token = query.get("continue")
    after: Name | None = None
    if token:
        if query.get("resourceVersion") not in {"", "0"}:
            raise BadRequest("specifying resource version is not allowed when using continue")
        revision, after = _read_token(token, chosen.namespace)
    else:
        revision = _start(store, query, limited=limit > 0)
    if revision < 0:
        revision = store.revision
    try:
        records, names = collection.at(revision)
    except Expired as error:
        if after is None:
            raise
        again = _token(-1, _start_key(after, chosen.namespace))
        raise Expired(_TOO_OLD_TO_CONTINUE, continue_token=again) from error
    matches = Matcher(served, chosen)
    candidates = (records[name] for name in _candidates(names, records, chosen, after))
    matching = candidates if chosen.everything else filter(matches, candidates)
    found, more = _page(matching, limit)
    metadata: Json = {"resourceVersion": str(revision)}
    if more:
        metadata["continue"] = _token(revision, _start_key((found[-1].namespace, found[-1].name), chosen.namespace))
        if chosen.everything:
            metadata["remainingItemCount"] = 1 + sum(1 for _ in matching)
    return Many(served, found, metadata)


def _candidates(
    names: Sequence[Name], records: Mapping[Name, Record], chosen: Selection, after: Name | None
) -> Sequence[Name]:
    if chosen.name is not None and chosen.namespace is not None:  # a list of one, as clients watch one object
        one = (chosen.namespace, chosen.name)
        return [one] if one in records and (after is None or one > after) else []
    return between(names, chosen.namespace, after)


def _start(store: Store, query: Query, *, limited: bool) -> int:
    """The revision that a list without a token is of; -1 for the newest."""
    text = query.get("resourceVersion")
    if not text:
        return -1
    revision = revision_of(text)
    match = query.get("resourceVersionMatch")
    _not_older_than(store, revision)
    # Without a match, Kubernetes takes a resourceVersion with a limit as exact, and without one as a lower bound.
    exact = match == "Exact" or (not match and limited and revision > 0)
    return revision if exact else -1


def _page(matching: Iterator[Record], limit: int) -> tuple[list[Record], bool]:
    """At most `limit` records (0: all), and whether there was one more."""
    if limit <= 0:
        return list(matching), False
    found: list[Record] = []
    for record in matching:
        if len(found) == limit:
            return found, True
        found.append(record)
    return found, False


def revision_of(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadRequest(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def _not_older_than(store: Store, revision: int) -> None:
    if revision > store.revision:
        raise Timeout(
            f"Timeout: Too large resource version: {revision}, current: {store.revision}",
            causes=(Cause("ResourceVersionTooLarge", "Too large resource version"),),
            retry_after_s=1,
        )


def _check_options(query: Query) -> None:
    found = []
    match = query.get("resourceVersionMatch")
    if match:
        if not query.get("resourceVersion"):
            found.append(
                causes.forbidden(
                    "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
                )
            )
        if query.get("continue"):
            found.append(
                causes.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
            )
        if match not in {"Exact", "NotOlderThan"}:
            found.append(causes.not_supported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]))
        if match == "Exact" and query.get("resourceVersion") == "0":
            found.append(
                causes.forbidden(
                    "resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
                )
            )
    if "sendInitialEvents" in query:
        found.append(causes.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if found:
        raise causes.invalid_error("ListOptions", "meta.k8s.io", "", found)


# Continue tokens: base64url of {"v": "meta.k8s.io/v1", "rv": 12, "start": "NAME\0"}, the start below the list's prefix.


def _start_key(after: Name, namespace: str | None) -> str:
    return f"{after[1]}\0" if namespace is not None or not after[0] else f"{after[0]}/{after[1]}\0"


def _token(revision: int, start: str) -> str:
    body = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def _read_token(token: str, namespace: str | None) -> tuple[int, Name]:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        fields = msgspec.json.decode(text, type=dict[str, str | int])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise _invalid_token(str(error)) from error
    revision, start = fields.get("rv"), fields.get("start")
    if fields.get("v") != "meta.k8s.io/v1":
        raise _invalid_token("server does not recognize this encoded version")
    if not isinstance(revision, int) or revision == 0:
        raise _invalid_token("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not isinstance(start, str) or not start.strip("/"):
        raise _invalid_token("encoded start key empty (version meta.k8s.io/v1)")
    start = start.lstrip("/").removesuffix("\0")
    if namespace is not None:
        return revision, (namespace, start)
    space, slash, name = start.partition("/")
    return revision, ((space, name) if slash else ("", space))


def _invalid_token(problem: str) -> BadRequest:
    return BadRequest(f"invalid continue token: continue key is not valid: {problem}")
