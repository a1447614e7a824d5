"""List: pages, resourceVersion rules, label and field selectors, and the answer's own metadata."""

import base64
import json

import pytest

from .client import Api, Json, Refused, Resource, refused
from .objects import WEB_LABELS, config_map, pod, secret
from .surroundings import Namespace

LABELS: dict[str, Json] = {
    "a": {"app": "web", "tier": "front", "env": "prod"},
    "b": {"app": "web", "tier": "back"},
    "c": {"app": "db", "env": "test"},
    "d": {},
}


@pytest.fixture
def labelled(maps: Resource) -> Resource:
    for name, labels in LABELS.items():
        maps.create(config_map(name, labels=labels))
    return maps


def own_names(resource: Resource, **query: object) -> list[str]:
    """Names but for the ConfigMap that a controller puts into each namespace."""
    return [name for name in resource.names(**query) if name != "kube-root-ca.crt"]


def test_an_empty_list(ns: Namespace) -> None:
    """No objects: items is an empty array, not null, and the list has a version."""
    got = ns("leases", None).api.get(ns("coordination.k8s.io/v1/leases").path)
    assert (got["kind"], got["apiVersion"], got["items"]) == ("LeaseList", "coordination.k8s.io/v1", [])
    assert set(got["metadata"]) == {"resourceVersion"}


def test_items_have_no_kind_of_their_own(labelled: Resource) -> None:
    """Items of a typed list leave out kind and apiVersion; the list's say it for all."""
    got = labelled.list()
    assert (got["kind"], got["apiVersion"]) == ("ConfigMapList", "v1")
    assert all("kind" not in item and "apiVersion" not in item for item in got["items"])


def test_items_of_custom_resources_have_their_kind(widgets: Resource, widgets_group: str) -> None:
    """Items of a custom list carry kind and apiVersion, as the stored object does."""
    widgets.create({"apiVersion": f"{widgets_group}/v1", "kind": "Widget", "metadata": {"name": "one"}})
    got = widgets.list()
    assert (got["kind"], got["apiVersion"]) == ("WidgetList", f"{widgets_group}/v1")
    assert [(item["kind"], item["apiVersion"]) for item in got["items"]] == [("Widget", f"{widgets_group}/v1")]


def test_lists_are_ordered_by_namespace_and_name(ns: Namespace, namespaces, api: Api) -> None:
    """Order is that of the keys: namespace, then name, by bytes."""
    spaces = sorted([ns, namespaces()], key=lambda space: space.name)
    for space in reversed(spaces):
        for name in ("b", "a-1", "a.1", "a"):
            space("secrets").create(secret(name, type="example.com/order"))
    found = api.resource("secrets").list(fieldSelector="type=example.com/order")["items"]
    ours = [space.name for space in spaces]
    got = [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in found if i["metadata"]["namespace"] in ours]
    assert got == [(space, name) for space in ours for name in ("a", "a-1", "a.1", "b")]


def test_a_list_is_of_its_namespace_only(ns: Namespace, namespaces) -> None:
    """Objects of other namespaces are not in a namespaced list."""
    other = namespaces()
    other("configmaps").create(config_map("theirs"))
    ns("configmaps").create(config_map("ours"))
    assert own_names(ns("configmaps")) == ["ours"]


def test_listing_a_namespace_that_is_not_there(api: Api, unique) -> None:
    """An unknown namespace has no objects; it is not an error."""
    assert api.resource("configmaps", unique()).list()["items"] == []


def test_the_list_version_is_not_older_than_its_items(labelled: Resource) -> None:
    """A watch from the list's version misses nothing and repeats nothing."""
    got = labelled.list()
    newest = max(int(item["metadata"]["resourceVersion"]) for item in got["items"])
    assert int(got["metadata"]["resourceVersion"]) >= newest


# Pages


def pages(resource: Resource, limit: int, **query: object) -> list[Json]:
    """All pages of a list, following `continue`."""
    found = [resource.list(limit=limit, **query)]
    while token := found[-1]["metadata"].get("continue"):
        found.append(resource.list(limit=limit, **query, **{"continue": token}))
    return found


def names_of(answer: Json) -> list[str]:
    return [item["metadata"]["name"] for item in answer["items"]]


@pytest.fixture
def ten(ns: Namespace) -> Resource:
    """Ten Secrets, s0 to s9, with the parity of their number as a label."""
    resource = ns("secrets")
    for number in range(10):
        resource.create(secret(f"s{number}", metadata={"name": f"s{number}", "labels": {"parity": str(number % 2)}}))
    return resource


@pytest.mark.parametrize("limit", [1, 3, 5, 9, 10, 11])
def test_pages_cover_the_list_once(ten: Resource, limit: int) -> None:
    """Whatever the limit: every object once, in order, all pages of one version."""
    found = pages(ten, limit)
    assert [name for page in found for name in names_of(page)] == [f"s{number}" for number in range(10)]
    assert [len(page["items"]) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert len({page["metadata"]["resourceVersion"] for page in found}) == 1


def test_remaining_item_count(ten: Resource) -> None:
    """Each page but the last says how many come after it; the last says nothing."""
    counts = [page["metadata"].get("remainingItemCount") for page in pages(ten, 4)]
    assert counts == [6, 2, None]


def test_remaining_item_count_is_unknown_with_a_selector(ten: Resource) -> None:
    """With a selector the number is not known and left out."""
    page = ten.list(limit=2, labelSelector="parity=0")
    assert page["metadata"]["continue"]
    assert "remainingItemCount" not in page["metadata"]


def test_pages_with_a_selector(ten: Resource) -> None:
    """The limit counts objects that match, and every match comes once."""
    found = pages(ten, 2, labelSelector="parity=1")
    assert [names_of(page) for page in found] == [["s1", "s3"], ["s5", "s7"], ["s9"]]


def test_pages_are_of_one_moment(ten: Resource) -> None:
    """Writes between pages are not seen: neither a new object, nor a deletion, nor a change."""
    first = ten.list(limit=4)
    ten.create(secret("s55"))
    ten.delete("s6")
    ten.patch("s7", {"metadata": {"labels": {"late": "yes"}}})
    second = ten.list(limit=4, **{"continue": first["metadata"]["continue"]})
    third = ten.list(limit=4, **{"continue": second["metadata"]["continue"]})
    assert names_of(second) + names_of(third) == ["s4", "s5", "s6", "s7", "s8", "s9"]
    assert "late" not in second["items"][3]["metadata"]["labels"]
    assert first["metadata"]["resourceVersion"] == third["metadata"]["resourceVersion"]
    assert ten.names() == ["s0", "s1", "s2", "s3", "s4", "s5", "s55", "s7", "s8", "s9"]


def test_the_last_page_has_no_token(ten: Resource) -> None:
    """A limit that is exactly the number of objects ends the list."""
    assert "continue" not in ten.list(limit=10)["metadata"]


def test_a_token_can_be_used_without_a_limit(ten: Resource) -> None:
    """Without a limit, the rest comes at once."""
    first = ten.list(limit=4)
    assert names_of(ten.list(**{"continue": first["metadata"]["continue"]})) == [f"s{n}" for n in range(4, 10)]


@pytest.mark.parametrize("token", ["bogus", "!", base64.urlsafe_b64encode(b"{}").decode().rstrip("="), "e30"])
def test_a_token_that_is_none(maps: Resource, token: str) -> None:
    """A continue token that the server did not make is a bad request."""
    with refused(400, "BadRequest", "continue"):
        maps.list(limit=1, **{"continue": token})


def test_a_token_with_a_resource_version(ten: Resource) -> None:
    """A token says its version; another one beside it is refused."""
    token = ten.list(limit=4)["metadata"]["continue"]
    version = ten.list()["metadata"]["resourceVersion"]
    with refused(400, "BadRequest", "specifying resource version is not allowed when using continue"):
        ten.list(limit=4, resourceVersion=version, **{"continue": token})


def test_a_token_with_a_match_rule(ten: Resource) -> None:
    """resourceVersionMatch is forbidden with a token."""
    token = ten.list(limit=4)["metadata"]["continue"]
    with refused(422, "Invalid", "resourceVersionMatch is forbidden when continue is provided"):
        ten.list(limit=4, resourceVersion="1", resourceVersionMatch="Exact", **{"continue": token})


@pytest.mark.parametrize("limit", ["x", "1.5"])
def test_a_limit_that_is_no_number(maps: Resource, limit: str) -> None:
    """The limit is an integer."""
    with refused(400, "BadRequest"):
        maps.list(limit=limit)


def test_a_limit_of_zero_is_none(ten: Resource) -> None:
    """limit=0 means no limit."""
    assert len(ten.list(limit=0)["items"]) == 10


# Resource versions


def test_unset_is_the_newest(maps: Resource) -> None:
    """A list without a version sees every write that was answered before it."""
    for number in range(20):
        maps.create(config_map(f"n{number}"))
        assert f"n{number}" in maps.names()


def test_zero_is_any(labelled: Resource) -> None:
    """resourceVersion=0 may be old, but is a list of some moment; here nothing has changed for long enough."""
    newest = labelled.list()["metadata"]["resourceVersion"]
    labelled.list(resourceVersion=newest, resourceVersionMatch="NotOlderThan")
    assert own_names(labelled, resourceVersion="0") == ["a", "b", "c", "d"]


def test_not_older_than(maps: Resource) -> None:
    """NotOlderThan, and a bare resourceVersion, give that version or a newer one."""
    version = maps.create(config_map("one"))["metadata"]["resourceVersion"]
    for query in ({"resourceVersionMatch": "NotOlderThan"}, {}, {"limit": 5}):
        got = maps.list(resourceVersion=version, **query)
        assert int(got["metadata"]["resourceVersion"]) >= int(version)
        assert "one" in names_of(got)


def test_exact_is_that_moment(maps: Resource) -> None:
    """Exact gives the list as it was at that version: later writes are not in it."""
    maps.create(config_map("one", {"a": "1"}))
    version = maps.create(config_map("two"))["metadata"]["resourceVersion"]
    maps.create(config_map("three"))
    maps.patch("one", {"data": {"a": "2"}})
    maps.delete("two")
    for query in ({}, {"limit": 500}):
        got = maps.list(resourceVersion=version, resourceVersionMatch="Exact", **query)
        assert got["metadata"]["resourceVersion"] == version
        ours = [item for item in got["items"] if item["metadata"]["name"] != "kube-root-ca.crt"]
        assert [(item["metadata"]["name"], item.get("data")) for item in ours] == [("one", {"a": "1"}), ("two", None)]


def test_exact_of_long_ago(maps: Resource) -> None:
    """The list of a version that is not kept any more is 410 Expired; of one that is, it is the list of that time."""
    maps.create(config_map("one"))
    try:
        got = maps.list(resourceVersion="1", resourceVersionMatch="Exact")
    except Refused as error:
        if (error.code, error.status["reason"]) != (410, "Expired"):
            raise
    else:
        assert got["items"] == []


def test_exact_with_pages(ten: Resource) -> None:
    """Pages of an exact version are of that version."""
    version = ten.list()["metadata"]["resourceVersion"]
    ten.create(secret("later"))
    first = ten.list(resourceVersion=version, resourceVersionMatch="Exact", limit=6)
    second = ten.list(limit=6, **{"continue": first["metadata"]["continue"]})
    assert names_of(first) + names_of(second) == [f"s{n}" for n in range(10)]
    assert second["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize("match", ["NotOlderThan", None])
def test_a_future_version(maps: Resource, match: str | None) -> None:
    """A version that is not reached yet: a timeout that names the cause and says when to try again."""
    version = int(maps.list()["metadata"]["resourceVersion"]) + 1_000_000
    query = {"resourceVersionMatch": match} if match else {}
    with refused(504, "Timeout", "Too large resource version") as error:
        maps.list(resourceVersion=str(version), **query)
    assert error.causes == [("", "ResourceVersionTooLarge")]
    assert error.response.headers["retry-after"] == str(error.details["retryAfterSeconds"])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"resourceVersionMatch": "Exact"}, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
            'resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
        ),
        ({"resourceVersionMatch": "Sometimes", "resourceVersion": "1"}, "resourceVersionMatch"),
        ({"sendInitialEvents": "true"}, "sendInitialEvents is forbidden for list"),
    ],
    ids=["match-alone", "exact-0", "unknown-match", "initial-events"],
)
def test_version_rules_that_make_no_sense(maps: Resource, query: Json, message: str) -> None:
    """Combinations without a meaning are refused, each with its reason."""
    with refused(422, "Invalid") as error:
        maps.list(**query)
    assert message.lower() in error.message.lower()


@pytest.mark.parametrize("version", ["x", "-1", "1.5"])
def test_a_version_that_is_no_number(maps: Resource, version: str) -> None:
    """Only the server's own notation is a version."""
    with refused(400, "BadRequest"):
        maps.list(resourceVersion=version)


# Label selectors


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=web", "ab"),
        ("app==web", "ab"),
        ("app!=web", "cd"),
        ("app", "abc"),
        ("!app", "d"),
        ("app in (web)", "ab"),
        ("app in (web, db)", "abc"),
        ("app notin (web)", "cd"),
        ("app notin (web,db)", "d"),
        ("app=web,tier=front", "a"),
        ("app=web,tier!=front", "b"),
        ("app,env", "ac"),
        ("app,!env", "b"),
        ("tier in (front,back),env notin (prod)", "b"),
        ("app=", ""),
        ("app in ()", ""),
        ("absent", ""),
        ("!absent", "abcd"),
        (" app = web , tier = back ", "b"),
        ("", "abcd"),
    ],
)
def test_label_selectors(labelled: Resource, selector: str, expected: str) -> None:
    """Equality and set forms, all of them together by `and`; absence matches !=, notin and !key."""
    assert "".join(own_names(labelled, labelSelector=selector)) == expected


@pytest.mark.parametrize("selector", ["a in x", "a b", "=web", "a in (x", "a,,b", "a=b=c", "(a)", "app in"])
def test_label_selectors_that_do_not_parse(maps: Resource, selector: str) -> None:
    """A selector that is not one is a bad request, not an empty answer."""
    with refused(400, "BadRequest"):
        maps.list(labelSelector=selector)


@pytest.mark.parametrize("selector", ["-a=b", "a=-b", "a=" + "x" * 64, "a/b/c=d"])
def test_label_selectors_with_bad_keys_or_values(maps: Resource, selector: str) -> None:
    """Keys are qualified names, values at most 63 characters of the label alphabet."""
    with refused(400, "BadRequest"):
        maps.list(labelSelector=selector)


def test_numeric_label_comparison(maps: Resource) -> None:
    """`>` and `<` compare integers; a value that is none does not match."""
    for name, value in {"n1": "1", "n5": "5", "n10": "10", "nx": "x"}.items():
        maps.create(config_map(name, labels={"size": value}))
    assert maps.names(labelSelector="size>1") == ["n10", "n5"]
    assert maps.names(labelSelector="size<10") == ["n1", "n5"]


# Field selectors


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=a", "a"),
        ("metadata.name==b", "b"),
        ("metadata.name!=a", "bcd"),
        ("metadata.name=absent", ""),
        ("metadata.name!=a,metadata.name!=b", "cd"),
        ("", "abcd"),
    ],
)
def test_field_selectors(labelled: Resource, selector: str, expected: str) -> None:
    """metadata.name with =, == and !=, by `and`."""
    assert "".join(own_names(labelled, fieldSelector=selector)) == expected


def test_field_selector_on_the_namespace(ns: Namespace, namespaces, api: Api) -> None:
    """metadata.namespace selects in a list over all namespaces."""
    other = namespaces()
    for space in (ns, other):
        space("secrets").create(secret("here"))
    found = api.resource("secrets").list(fieldSelector=f"metadata.namespace={other.name},metadata.name=here")["items"]
    assert [item["metadata"]["namespace"] for item in found] == [other.name]


def test_field_and_label_selectors_together(labelled: Resource) -> None:
    """Both must hold."""
    assert labelled.names(fieldSelector="metadata.name!=a", labelSelector="app=web") == ["b"]


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        ("configmaps", "data.a"),
        ("pods", "spec.bogus"),
        ("pods", "metadata.labels"),
        ("secrets", "data"),
        ("apps/v1/deployments", "spec.replicas"),
        ("batch/v1/jobs", "status.failed"),
    ],
)
def test_fields_that_cannot_be_selected(ns: Namespace, resource: str, field: str) -> None:
    """A field that a type does not offer is refused by its name."""
    with refused(400, "BadRequest", field):
        ns(resource).list(fieldSelector=f"{field}=x")


@pytest.mark.parametrize("selector", ["metadata.name", "metadata.name>a", "metadata.name=a=b"])
def test_field_selectors_that_do_not_parse(maps: Resource, selector: str) -> None:
    """Only = == and != are field operators."""
    with refused(400, "BadRequest"):
        maps.list(fieldSelector=selector)


def test_fields_of_pods(pods: Resource, ns: Namespace) -> None:
    """Pods are found by node, phase, restart policy, scheduler, service account and more."""
    pods.create(pod("one", restartPolicy="Never", schedulerName="none"))
    pods.create(pod("two", schedulerName="other"))
    for selector, expected in {
        "spec.restartPolicy=Never": ["one"],
        "spec.schedulerName=other": ["two"],
        "spec.serviceAccountName=default": ["one", "two"],
        "status.phase=Pending": ["one", "two"],
        "status.phase!=Pending": [],
        "spec.nodeName=": ["one", "two"],
        "spec.nodeName=nowhere": [],
        "status.podIP=": ["one", "two"],
        "spec.hostNetwork=false": ["one", "two"],
    }.items():
        assert pods.names(fieldSelector=selector) == expected, selector


def test_fields_of_secrets_and_services(ns: Namespace) -> None:
    """Secrets by type; Services by type and cluster IP; Events and Jobs have their own fields too."""
    ns("secrets").create(secret("typed", type="example.com/t"))
    ns("secrets").create(secret("plain"))
    assert ns("secrets").names(fieldSelector="type=example.com/t") == ["typed"]
    assert ns("secrets").names(fieldSelector="type=Opaque") == ["plain"]
    spec = {"clusterIP": "None", "selector": WEB_LABELS, "ports": [{"port": 80}]}
    ns("services").create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "headless"}, "spec": spec})
    assert ns("services").names(fieldSelector="spec.clusterIP=None") == ["headless"]
    assert ns("services").names(fieldSelector="spec.type=ClusterIP") == ["headless"]


def test_selectable_fields_of_a_custom_resource(define, ns: Namespace) -> None:
    """`selectableFields` of a CRD version can be selected; others cannot."""
    properties = {"color": {"type": "string"}, "size": {"type": "integer"}}
    spec = {"type": "object", "properties": properties}
    schema = {"type": "object", "properties": {"spec": spec}}
    group = define(schema, version={"selectableFields": [{"jsonPath": ".spec.color"}]})
    things = ns(f"{group}/v1/widgets")
    for name, color in {"one": "red", "two": "blue"}.items():
        body = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": name}}
        things.create(body | {"spec": {"color": color, "size": 1}})
    assert things.names(fieldSelector="spec.color=blue") == ["two"]
    assert things.names(fieldSelector="metadata.name=one") == ["one"]
    with refused(400, "BadRequest", "spec.size"):
        things.list(fieldSelector="spec.size=1")


def test_metadata_only_lists(labelled: Resource) -> None:
    """`as=PartialObjectMetadataList` gives metadata without data or spec."""
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    response = labelled.api.request("GET", labelled.path, headers={"Accept": accept}, labelSelector="app=web")
    got = json.loads(response.text)
    assert (got["kind"], got["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert names_of(got) == ["a", "b"]
    for item in got["items"]:
        assert (item["kind"], item["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
        assert set(item) == {"kind", "apiVersion", "metadata"}


def test_metadata_only_object(labelled: Resource) -> None:
    """`as=PartialObjectMetadata` gives one object's metadata."""
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    got = labelled.api.request("GET", labelled.at("a"), headers={"Accept": accept}).json()
    assert (got["kind"], got["metadata"]["labels"]) == ("PartialObjectMetadata", LABELS["a"])
    assert set(got) == {"kind", "apiVersion", "metadata"}
