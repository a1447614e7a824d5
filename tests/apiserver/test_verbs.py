"""Verbs under concurrency and in odd corners. What each verb does by Kubernetes' book is judged in tests/conformance."""

import asyncio
import base64
import json

import pytest

from .conftest import APPLY, MERGE, Api, client_of, config_map, definition, pod

NS = "/api/v1/namespaces/default"
MAPS = f"{NS}/configmaps"
PODS = f"{NS}/pods"


# Writes that meet.


async def test_increments_by_patch_all_count(api: Api) -> None:
    """Fifty clients patch one object at once: no patch without a version ever conflicts, and none is lost."""
    await api.create(MAPS, config_map("one"))
    answers = await asyncio.gather(
        *(api.call("PATCH", f"{MAPS}/one", {"data": {f"k{i}": "x"}}, MERGE) for i in range(50))
    )
    assert {status for status, _ in answers} == {200}
    assert len((await api.get(f"{MAPS}/one"))["data"]) == 50


async def test_of_updates_to_one_version_one_wins(api: Api) -> None:
    made = await api.create(MAPS, config_map("one"))
    answers = await asyncio.gather(
        *(api.call("PUT", f"{MAPS}/one", {**made, "data": {"winner": str(i)}}) for i in range(20))
    )
    statuses = sorted(status for status, _ in answers)
    assert statuses == [200] + [409] * 19
    winner = next(body for status, body in answers if status == 200)
    assert await api.get(f"{MAPS}/one") == winner


async def test_of_creates_of_one_name_one_wins(api: Api) -> None:
    answers = await asyncio.gather(*(api.call("POST", MAPS, config_map("one", {"i": str(i)})) for i in range(20)))
    assert sorted(status for status, _ in answers) == [201] + [409] * 19


async def test_a_namespace_can_be_used_as_soon_as_it_is_there(api: Api) -> None:
    """Its service account was written with it: a Pod may come in the next request."""
    for i in range(10):
        await api.create("/api/v1/namespaces", {"metadata": {"name": f"n{i}"}})
        await api.create(f"/api/v1/namespaces/n{i}/pods", pod("p"))


async def test_two_services_made_at_once_have_two_addresses(api: Api) -> None:
    service = lambda i: {"metadata": {"name": f"s{i}"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    made = await asyncio.gather(*(api.create(f"{NS}/services", service(i)) for i in range(30)))
    assert len({one["spec"]["clusterIP"] for one in made}) == 30
    assert len({one["spec"]["ports"][0]["nodePort"] for one in made}) == 30


async def test_a_write_that_changes_nothing_is_none(api: Api) -> None:
    """No new version, no event: an update, a patch and an apply of what is there already."""
    made = await api.create(MAPS, config_map("one", {"a": "1"}))
    assert await api.ok("PUT", f"{MAPS}/one", made) == made
    assert await api.merge(f"{MAPS}/one", {"data": {"a": "1"}}) == made
    applied = await api.ok("PATCH", f"{MAPS}/one", config_map("one", {"a": "1"}), APPLY, fieldManager="m")
    again = await api.ok("PATCH", f"{MAPS}/one", config_map("one", {"a": "1"}), APPLY, fieldManager="m")
    assert again == applied


# Lists.


async def test_pages_are_of_one_moment(api: Api) -> None:
    """What changes between pages is not seen: the second page is of the moment of the first."""
    namespace = "/api/v1/namespaces/paged"
    await api.create("/api/v1/namespaces", {"metadata": {"name": "paged"}})
    maps = f"{namespace}/configmaps"
    await api.delete(f"{maps}/kube-root-ca.crt")
    for name in "abcdef":
        await api.create(maps, config_map(name, {"v": "1"}))
    selector = {"fieldSelector": "metadata.name!=kube-root-ca.crt"}
    first = await api.get(maps, limit="2", **selector)
    await api.delete(f"{maps}/c")
    await api.merge(f"{maps}/d", {"data": {"v": "2"}})
    await api.create(maps, config_map("bb"))
    second = await api.get(maps, limit="9", **{"continue": first["metadata"]["continue"]}, **selector)
    assert [one["metadata"]["name"] for one in first["items"]] == ["a", "b"]
    assert [(one["metadata"]["name"], one["data"]["v"]) for one in second["items"]] == [
        ("c", "1"),
        ("d", "1"),
        ("e", "1"),
        ("f", "1"),
    ]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    exact = await api.get(maps, resourceVersion=first["metadata"]["resourceVersion"], resourceVersionMatch="Exact")
    assert {one["metadata"]["name"] for one in exact["items"]} == {"a", "b", "c", "d", "e", "f", "kube-root-ca.crt"}
    assert {"bb"} < {one["metadata"]["name"] for one in (await api.get(maps))["items"]}


async def test_every_page_size_gives_every_object_once(api: Api) -> None:
    for i in range(23):
        await api.create(MAPS, config_map(f"m{i:02}"))
    everything = [one["metadata"]["name"] for one in (await api.get("/api/v1/configmaps"))["items"]]
    for limit in (1, 7, 23, 100):
        names: list[str] = []
        token = ""
        while True:
            page = await api.get("/api/v1/configmaps", limit=str(limit), **({"continue": token} if token else {}))
            names += [one["metadata"]["name"] for one in page["items"]]
            token = page["metadata"].get("continue", "")
            assert page["metadata"].get("remainingItemCount", 0) == len(everything) - len(names)
            if not token:
                break
        assert names == everything


async def test_a_token_whose_moment_is_gone_says_how_to_go_on(tmp_path) -> None:
    """410 with a token for an inconsistent rest, which then works."""
    from mizzen.local.apiserver.server import ApiServer
    from mizzen.local.apiserver.store import Limits

    server = ApiServer(tmp_path / "home", port=0, limits=Limits(events=5))
    await server.start()
    async with client_of(server) as http:
        api = Api(http, server)
        for name in "abc":
            await api.create(MAPS, config_map(name))
        first = await api.get(MAPS, limit="1")
        for value in range(10):
            await api.merge(f"{MAPS}/c", {"data": {"v": str(value)}})
        status, gone = await api.call("GET", MAPS, limit="9", **{"continue": first["metadata"]["continue"]})
        assert (status, gone["reason"]) == (410, "Expired")
        rest = await api.get(MAPS, limit="9", **{"continue": gone["metadata"]["continue"]})
        assert [one["metadata"]["name"] for one in rest["items"]] == ["b", "c", "kube-root-ca.crt"]
    await server.stop()


@pytest.mark.parametrize("token", ["bogus!", "e30", base64.urlsafe_b64encode(b'"x"').decode(), "AAAA"])
async def test_tokens_of_others(api: Api, token: str) -> None:
    status, answer = await api.call("GET", MAPS, limit="1", **{"continue": token})
    assert (status, answer["reason"]) == (400, "BadRequest")


# Deletion.


async def test_the_last_finalizer_takes_the_object_along(api: Api) -> None:
    await api.create(MAPS, config_map("one", finalizers=["example.com/a", "example.com/b"]))
    marked = await api.delete(f"{MAPS}/one")
    assert (marked["kind"], marked["metadata"]["deletionGracePeriodSeconds"]) == ("ConfigMap", 0)
    async with api.watch(MAPS, resourceVersion=marked["metadata"]["resourceVersion"]) as events:
        await api.merge(f"{MAPS}/one", {"metadata": {"finalizers": ["example.com/b"]}})
        await api.merge(f"{MAPS}/one", {"metadata": {"finalizers": None}})
        assert [(await anext(events))["type"] for _ in range(2)] == ["MODIFIED", "DELETED"]
    assert (await api.call("GET", f"{MAPS}/one"))[0] == 404


async def test_a_pod_on_a_node_is_given_time(api: Api) -> None:
    """Marked with its own grace period; that can be shortened, never lengthened; the kubelet's delete ends it."""
    await api.create(PODS, pod("p", nodeName="n", terminationGracePeriodSeconds=60))
    first = await api.delete(f"{PODS}/p")
    assert first["metadata"]["deletionGracePeriodSeconds"] == 60
    assert first["metadata"]["generation"] == 2
    longer = await api.delete(f"{PODS}/p", gracePeriodSeconds="90")
    assert longer == first
    shorter = await api.delete(f"{PODS}/p", gracePeriodSeconds="10")
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 10
    assert shorter["metadata"]["deletionTimestamp"] < first["metadata"]["deletionTimestamp"]
    last = await api.delete(f"{PODS}/p", gracePeriodSeconds="0")
    assert last["kind"] == "Pod"
    assert (await api.call("GET", f"{PODS}/p"))[0] == 404


async def test_a_pod_on_no_node_goes_at_once(api: Api) -> None:
    await api.create(PODS, pod("p"))
    gone = await api.delete(f"{PODS}/p")
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 0
    assert (await api.call("GET", f"{PODS}/p"))[0] == 404


async def test_a_namespace_waits_for_whoever_clears_it(api: Api) -> None:
    """Terminating until its finalizers are taken off, and nothing new is made in it."""
    await api.create("/api/v1/namespaces", {"metadata": {"name": "n"}})
    marked = await api.delete("/api/v1/namespaces/n")
    assert marked["status"]["phase"] == "Terminating"
    status, answer = await api.call("POST", "/api/v1/namespaces/n/configmaps", config_map("late"))
    assert (status, answer["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    again = await api.delete("/api/v1/namespaces/n")
    assert again["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]
    finalized = {**again, "spec": {"finalizers": []}}
    await api.ok("PUT", "/api/v1/namespaces/n/finalize", finalized)
    assert (await api.call("GET", "/api/v1/namespaces/n"))[0] == 404


async def test_a_dry_run_leaves_nothing(api: Api) -> None:
    await api.create(MAPS, config_map("one", {"a": "1"}))
    before = api.server.statistics().revision
    await api.create(MAPS, config_map("two"), dryRun="All")
    await api.merge(f"{MAPS}/one", {"data": {"a": "2"}}, dryRun="All")
    await api.ok("PATCH", f"{MAPS}/three", config_map("three"), APPLY, fieldManager="m", dryRun="All")
    await api.delete(f"{MAPS}/one", dryRun="All")
    await api.delete(MAPS, dryRun="All")
    assert api.server.statistics().revision == before
    assert (await api.get(f"{MAPS}/one"))["data"] == {"a": "1"}


async def test_a_collection_goes_one_by_one(api: Api) -> None:
    for i in range(5):
        await api.create(MAPS, config_map(f"m{i}", labels={"odd": str(i % 2)}))
    gone = await api.delete(MAPS, labelSelector="odd=1")
    assert [one["metadata"]["name"] for one in gone["items"]] == ["m1", "m3"]
    left = await api.get(MAPS, labelSelector="odd")
    assert [one["metadata"]["name"] for one in left["items"]] == ["m0", "m2", "m4"]


# Custom resources.


async def test_a_kind_is_served_from_the_answer_on(api: Api) -> None:
    made = await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition())
    assert [(one["type"], one["status"]) for one in made["status"]["conditions"]] == [
        ("NamesAccepted", "True"),
        ("Established", "True"),
    ]
    widgets = "/apis/example.com/v1/namespaces/default/widgets"
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "any": {"thing": 1}}
    assert (await api.create(widgets, widget))["any"] == {"thing": 1}
    listed = await api.get("/apis/example.com/v1")
    assert [one["name"] for one in listed["resources"]] == ["widgets"]


async def test_a_definition_takes_its_objects_along(api: Api) -> None:
    """Objects are deleted, finalizers are waited for, the definition goes last; then it can be made anew."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    widgets = "/apis/example.com/v1/namespaces/default/widgets"
    made = await api.create(definitions, definition())
    for name in ("a", "b"):
        finalizers = ["example.com/wait"] if name == "a" else []
        body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "finalizers": finalizers}}
        await api.create(widgets, body)
    start = made["metadata"]["resourceVersion"]
    async with api.watch(definitions, resourceVersion=start) as events:
        marked = await api.delete(f"{definitions}/widgets.example.com")
        assert marked["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
        assert (await anext(events))["type"] == "MODIFIED"
        async with api.watch(widgets, resourceVersion=start) as of_widgets:
            seen = []
            while ("DELETED", "b") not in seen or ("MODIFIED", "a") not in seen:
                event = await anext(of_widgets)
                seen.append((event["type"], event["object"]["metadata"]["name"]))
        assert (await api.call("GET", f"{definitions}/widgets.example.com"))[0] == 200
        await api.merge(f"{widgets}/a", {"metadata": {"finalizers": None}})
        assert (await anext(events))["type"] == "DELETED"
    assert (await api.call("GET", widgets))[0] == 404
    await api.create(definitions, definition())
    assert (await api.get(widgets))["items"] == []


async def test_old_objects_are_read_by_the_new_schema(api: Api) -> None:
    """A default that came later is seen in gets, lists and watches, without a new version of the object."""
    schema = lambda **fields: {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    widgets = "/apis/example.com/v1/namespaces/default/widgets"
    await api.create(definitions, definition(schema=schema(a={"type": "string"}, b={"type": "string"})))
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"a": "1", "b": "2"}}
    made = await api.create(widgets, body)
    changed = definition(schema=schema(a={"type": "string"}, c={"type": "string", "default": "3"}))
    await api.merge(f"{definitions}/widgets.example.com", {"spec": changed["spec"]})
    got = await api.get(f"{widgets}/w")
    assert got["spec"] == {"a": "1", "c": "3"}
    assert got["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (await api.get(widgets))["items"] == [got]
    async with api.watch(widgets) as events:
        assert (await anext(events))["object"] == got


async def test_a_definition_whose_names_are_taken_is_not_served(api: Api) -> None:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await api.create(definitions, definition())
    await api.create(definitions, definition("gadgets", "Widget"))
    assert (await api.call("GET", "/apis/example.com/v1/gadgets"))[0] == 404
    await api.delete(f"{definitions}/gadgets.example.com")
    assert (await api.call("GET", f"{definitions}/gadgets.example.com"))[0] == 404


# Housekeeping.


async def test_what_a_namespace_has_by_itself_comes_back(api: Api) -> None:
    for path in (f"{NS}/serviceaccounts/default", f"{MAPS}/kube-root-ca.crt"):
        before = await api.get(path)
        await api.delete(path)
        after = await api.get(path)
        assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def test_aggregated_roles_follow_those_they_select(api: Api) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    rule = {"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}
    label = "rbac.authorization.k8s.io/aggregate-to-view"
    before = (await api.get(f"{roles}/view"))["metadata"]["resourceVersion"]
    async with api.watch(roles, fieldSelector="metadata.name=view", resourceVersion=before) as events:
        await api.create(roles, {"metadata": {"name": "more", "labels": {label: "true"}}, "rules": [rule]})
        assert rule in (await anext(events))["object"]["rules"]
        await api.delete(f"{roles}/more")
        assert rule not in (await anext(events))["object"]["rules"]


async def test_scale_of_every_kind_that_has_one(api: Api) -> None:
    """A Deployment by its own fields, a custom resource by the paths of its definition; the generation counts it."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    await api.create(deployments, deployment)
    scale = await api.get(f"{deployments}/d/scale")
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 1}, "a=b")
    await api.ok("PUT", f"{deployments}/d/scale", {**scale, "spec": {"replicas": 3}})
    assert (await api.call("PUT", f"{deployments}/d/scale", scale))[0] == 409
    got = await api.get(f"{deployments}/d")
    assert (got["spec"]["replicas"], got["metadata"]["generation"]) == (3, 2)
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.sel"}
    body = definition(subresources={"scale": paths, "status": {}})
    await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    widgets = "/apis/example.com/v1/namespaces/default/widgets"
    await api.create(widgets, {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}})
    await api.merge(f"{widgets}/w/status", {"status": {"size": 2, "sel": "x=y"}})
    changed = await api.merge(f"{widgets}/w/scale", {"spec": {"replicas": 5}})
    assert (changed["spec"], changed["status"]) == ({"replicas": 5}, {"replicas": 2, "selector": "x=y"})
    assert (await api.get(f"{widgets}/w"))["spec"] == {"size": 5}


async def test_fields_of_a_patch_are_owned_by_its_manager(api: Api) -> None:
    """managedFields on every write, and a conflict for whoever applies over them."""
    await api.create(MAPS, config_map("one", {"a": "1"}), fieldManager="first")
    await api.merge(f"{MAPS}/one", {"data": {"b": "1"}}, fieldManager="second")
    managed = (await api.get(f"{MAPS}/one"))["metadata"]["managedFields"]
    owned = {entry["manager"]: entry["fieldsV1"]["f:data"] for entry in managed}
    assert owned == {"first": {".": {}, "f:a": {}}, "second": {"f:b": {}}}
    status, answer = await api.call("PATCH", f"{MAPS}/one", config_map("one", {"b": "2"}), APPLY, fieldManager="third")
    assert (status, answer["details"]["causes"][0]["field"]) == (409, ".data.b")
    assert json.dumps(answer).count("second") >= 1
