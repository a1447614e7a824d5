"""Strategic merge patch: Kubernetes' documented examples, its directives, and a naive merge on generated patches."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.apiserver.patch.builders import DEPLOYMENTS, PODS

from mizzen.local.apiserver.errors import BadRequest, Invalid
from mizzen.local.apiserver.patch import strategic
from mizzen.local.apiserver.types import Json


def pod(**spec: Any) -> Json:
    return {"metadata": {"name": "p"}, "spec": spec}


def patched(document: Json, patch: Json) -> Json:
    before = copy.deepcopy((document, patch))
    result = strategic.apply(document, patch, PODS.schema)
    assert (document, patch) == before, "arguments are values"
    return result


def container(name: str, **fields: Any) -> Json:
    return {"name": name, **fields}


def named(*names: str) -> list[Json]:
    return [{"name": name} for name in names]


# What the documentation of kubectl patch shows.


def test_containers_are_merged_by_name() -> None:
    """The one patched comes first, as the real server answers."""
    document = pod(containers=[container("patch-demo-ctr", image="nginx")])
    patch = {"spec": {"containers": [container("patch-demo-ctr-2", image="redis")]}}
    assert patched(document, patch)["spec"]["containers"] == [
        container("patch-demo-ctr-2", image="redis"),
        container("patch-demo-ctr", image="nginx"),
    ]


def test_lists_without_a_strategy_are_replaced() -> None:
    document = pod(tolerations=[{"key": "dedicated", "value": "test-team"}])
    patch = {"spec": {"tolerations": [{"key": "disktype", "value": "ssd"}]}}
    assert patched(document, patch)["spec"]["tolerations"] == [{"key": "disktype", "value": "ssd"}]


def test_retain_keys_drops_a_unions_other_member() -> None:
    deployment = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.apply(deployment, patch, DEPLOYMENTS.schema) == {"spec": {"strategy": {"type": "Recreate"}}}


# Directives


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        pytest.param([{"name": "b", "$patch": "delete"}], [container("a", image="1"), container("c")], id="delete"),
        pytest.param([{"$patch": "replace"}, container("z")], [container("z")], id="replace the list"),
        pytest.param([{"$patch": "replace"}], [], id="empty the list"),
        pytest.param([container("a", image=None)], named("a", "b", "c"), id="null removes a field"),
        pytest.param(
            [container("c", image="3")],
            [container("a", image="1"), container("b"), container("c", image="3")],
            id="in place",
        ),
        pytest.param(
            [container("c"), container("a")],
            [container("b"), container("c"), container("a", image="1")],
            id="the patch's order",
        ),
        pytest.param(
            [{"name": "z", "$patch": "delete"}], [container("a", image="1"), *named("b", "c")], id="delete nobody"
        ),
    ],
)
def test_directives_in_a_list(patch: list, expected: list) -> None:
    document = pod(containers=[container("a", image="1"), container("b"), container("c")])
    assert patched(document, {"spec": {"containers": patch}})["spec"]["containers"] == expected


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"nodeSelector": {"a": None, "c": "3"}}, {"nodeSelector": {"b": "2", "c": "3"}}),
        ({"nodeSelector": {"$patch": "replace", "c": "3"}}, {"nodeSelector": {"c": "3"}}),
        ({"nodeSelector": {"$patch": "delete"}}, {"nodeSelector": {}}),
        ({"nodeSelector": None}, {}),
        ({"nodeSelector": "text"}, {"nodeSelector": "text"}),
        (
            {"securityContext": {"runAsUser": 1, "runAsGroup": None}},
            {"nodeSelector": {"a": "1", "b": "2"}, "securityContext": {"runAsUser": 1}},
        ),
    ],
)
def test_directives_in_an_object(patch: Json, expected: Json) -> None:
    assert patched(pod(nodeSelector={"a": "1", "b": "2"}), {"spec": patch})["spec"] == expected


def test_primitive_lists_are_sets() -> None:
    """finalizers: what the patch adds is added once, what it deletes goes, and the order asked for holds."""
    document = {"metadata": {"finalizers": ["x", "y", "z"]}}
    assert patched(document, {"metadata": {"finalizers": ["z", "n"]}})["metadata"]["finalizers"] == ["x", "y", "z", "n"]
    deleting = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["y", "absent"]}}
    assert patched(document, deleting)["metadata"]["finalizers"] == ["x", "z"]
    ordering = {"metadata": {"$setElementOrder/finalizers": ["n", "z", "x"], "finalizers": ["n"]}}
    assert patched(document, ordering)["metadata"]["finalizers"] == ["n", "y", "z", "x"]
    assert patched({"metadata": {}}, deleting) == {"metadata": {}}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (("c", "b", "a"), ("c", "b", "a")),
        (("c", "a"), ("b", "c", "a")),
        (("b", "n"), ("a", "b", "n", "c")),
        ((), ("a", "b", "c")),
    ],
)
def test_element_order_keeps_what_only_the_server_has_in_place(order: tuple, expected: tuple) -> None:
    document = pod(containers=named("a", "b", "c"))
    patch: Json = {"$setElementOrder/containers": named(*order)}
    if "n" in order:
        patch["containers"] = named("n")
    result = patched(document, {"spec": patch})["spec"]["containers"]
    assert sorted(item["name"] for item in result) == sorted(expected)
    assert [item["name"] for item in result if item["name"] in order] == [name for name in expected if name in order]


def test_what_kubectl_apply_sends() -> None:
    """A changed image, a removed container, a moved union member and the order of all, in one patch."""
    document = pod(
        containers=[
            container("a", image="1", env=[{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]),
            container("b"),
        ],
        volumes=[{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
    )
    patch = {
        "spec": {
            "$setElementOrder/containers": named("a"),
            "containers": [
                {
                    "name": "a",
                    "image": "2",
                    "$setElementOrder/env": named("Y", "Z"),
                    "env": [{"name": "Z", "value": "3"}, {"name": "X", "$patch": "delete"}],
                },
                {"name": "b", "$patch": "delete"},
            ],
            "$setElementOrder/volumes": named("v", "w"),
            "volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "cm"}}],
        }
    }
    assert patched(document, patch)["spec"] == {
        "containers": [container("a", image="2", env=[{"name": "Y", "value": "2"}, {"name": "Z", "value": "3"}])],
        "volumes": [{"name": "v", "configMap": {"name": "cm"}}, {"name": "w", "emptyDir": {}}],
    }


def test_directives_inside_something_new_are_obeyed_too() -> None:
    """Kubernetes would leave an element C behind, and lose the requests."""
    new = container(
        "n",
        env=[{"name": "C", "$patch": "delete"}, {"name": "D", "value": "1"}],
        resources={"$patch": "replace", "requests": {"cpu": "1"}},
        command=None,
    )
    assert patched(pod(containers=[]), {"spec": {"containers": [new]}})["spec"]["containers"] == [
        container("n", env=[{"name": "D", "value": "1"}], resources={"requests": {"cpu": "1"}})
    ]


@pytest.mark.parametrize(
    ("patch", "error", "message"),
    [
        ([], BadRequest, "error decoding patch"),
        (
            {"spec": {"nodeSelector": {"$patch": "bogus"}}},
            BadRequest,
            r"unknown patch type: bogus in map: map\[\$patch:bogus\]",
        ),
        (
            {"spec": {"containers": [{"image": "x"}]}},
            BadRequest,
            r"map: map\[image:x\] does not contain declared merge key: name",
        ),
        ({"spec": {"containers": ["x"]}}, BadRequest, "expected a map with the key name"),
        (
            {"spec": {"containers": [{"name": "a", "$patch": "merge"}]}},
            BadRequest,
            "merging lists cannot yet be specified",
        ),
        ({"spec": {"containers": [{"name": "a", "$patch": "bogus"}]}}, BadRequest, "unknown patch type: bogus"),
        ({"spec": {"containers": [{"$patch": "delete"}]}}, BadRequest, "does not contain declared merge key: name"),
        (
            {"spec": {"nodeSelector": {"$retainKeys": ["a"], "b": "1"}}},
            BadRequest,
            "invalid patch format of retainKeys",
        ),
        ({"spec": {"nodeSelector": {"$retainKeys": "a"}}}, BadRequest, "invalid patch format of retainKeys"),
        (
            {"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}},
            BadRequest,
            "invalid patch format of primitive list",
        ),
        ({"spec": {"$setElementOrder/containers": "x"}}, BadRequest, "invalid patch format of setElementOrder list"),
        (
            {"spec": {"$setElementOrder/containers": named("a", "b"), "containers": named("b", "a")}},
            BadRequest,
            r"The order in patch list:\n\[map\[name:b\] map\[name:a\]\]\n doesn't match \$setElementOrder list",
        ),
        ({"metadata": {"finalizers": [["x"]]}}, Invalid, "lists of lists are not supported"),
    ],
)
def test_patches_that_contradict_themselves(patch: Any, error: type[Exception], message: str) -> None:
    document = {"metadata": {"finalizers": ["x"]}, "spec": {"containers": named("a"), "nodeSelector": {"a": "1"}}}
    with pytest.raises(error, match=message):
        strategic.apply(document, patch, PODS.schema)


# A naive merge, by the sentences of the documentation.

names = st.sampled_from("abcde")
texts = st.sampled_from("12")


def records(*fields: str) -> st.SearchStrategy:
    optional: dict[str, st.SearchStrategy] = {field: texts | st.none() for field in fields}
    return st.lists(
        st.fixed_dictionaries({"name": names}, optional=optional), max_size=4, unique_by=lambda item: item["name"]
    )


def without_nulls(items: list[Json]) -> list[Json]:
    return [{key: value for key, value in item.items() if value is not None} for item in items]


live_containers = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"image": texts, "env": records("value").map(without_nulls)}),
    max_size=4,
    unique_by=lambda item: item["name"],
)
patch_containers = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"image": texts | st.none(), "env": records("value")}),
    max_size=4,
    unique_by=lambda item: item["name"],
)


def naive_merge(current: list[Json], patch: list[Json]) -> dict[str, Json]:
    by_name = {item["name"]: copy.deepcopy(item) for item in current}
    for item in patch:
        merged = by_name.setdefault(item["name"], {})
        for key, value in item.items():
            if value is None:
                merged.pop(key, None)
            elif key == "env":
                merged[key] = list(naive_merge(merged.get(key, []), value).values())
            else:
                merged[key] = value
    return by_name


def canonical(containers: list[Json]) -> dict[str, Json]:
    """Without order: that is another property's."""
    return {
        item["name"]: {**item, **({"env": {one["name"]: one for one in item["env"]}} if "env" in item else {})}
        for item in containers
    }


@given(current=live_containers, patch=patch_containers)
def test_agrees_with_a_naive_merge(current: list, patch: list) -> None:
    """The same elements with the same fields; a second time changes nothing; the patch's order holds."""
    document, change = pod(containers=current), {"spec": {"containers": patch}}
    result = patched(document, change)["spec"]["containers"]
    assert canonical(result) == canonical(list(naive_merge(current, patch).values()))
    assert canonical(patched(pod(containers=result), change)["spec"]["containers"]) == canonical(result)
    wanted = [item["name"] for item in patch]
    others = [item["name"] for item in current if item["name"] not in wanted]
    order = [item["name"] for item in result]
    assert [name for name in order if name in wanted] == wanted
    assert [name for name in order if name in others] == others


@given(current=live_containers, patch=patch_containers, data=st.data())
def test_deleting_an_element_is_leaving_it_out(current: list, patch: list, data: st.DataObject) -> None:
    gone = data.draw(st.sets(names, max_size=2))
    deletions = [{"name": name, "$patch": "delete"} for name in sorted(gone)]
    kept = [item for item in patch if item["name"] not in gone]
    with_directives = patched(pod(containers=current), {"spec": {"containers": [*deletions, *kept]}})
    left = [item for item in current if item["name"] not in gone]
    assert with_directives == patched(pod(containers=left), {"spec": {"containers": kept}})
