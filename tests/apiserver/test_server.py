"""A server starts from nothing, stops in good order, starts again with everything, and refuses a home it cannot use."""

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest

from mizzen.local.apiserver.server import ApiServer

from .conftest import Api, client_of, config_map

MAPS = "/api/v1/namespaces/default/configmaps"


async def test_a_new_home_has_what_a_cluster_starts_with(api: Api) -> None:
    """Namespaces, each with its service account and CA; the API's own Service; the default roles."""
    names = {one["metadata"]["name"] for one in (await api.get("/api/v1/namespaces"))["items"]}
    assert names == {"default", "kube-system", "kube-public", "kube-node-lease", "mizzen-system"}
    for name in names:
        assert await api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default")
        authority = await api.get(f"/api/v1/namespaces/{name}/configmaps/kube-root-ca.crt")
        assert "BEGIN CERTIFICATE" in authority["data"]["ca.crt"]
    service = await api.get("/api/v1/namespaces/default/services/kubernetes")
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    admin = await api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/admin")
    assert admin["rules"], "an aggregated role holds the rules of those it selects"


async def test_the_kubeconfig_is_private(server: ApiServer) -> None:
    assert stat.S_IMODE(server.kubeconfig.stat().st_mode) == 0o600


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Objects, resourceVersions, credentials and history survive; new revisions come after the old ones."""
    home = tmp_path / "home"
    first = ApiServer(home, port=0)
    await first.start()
    async with client_of(first) as http:
        api = Api(http, first)
        made = await api.create(MAPS, config_map("kept", {"a": "1"}))
        changed = await api.merge(f"{MAPS}/kept", {"data": {"a": "2"}})
        await api.create(MAPS, config_map("gone"))
        await api.delete(f"{MAPS}/gone")
        last = (await api.get(MAPS))["metadata"]["resourceVersion"]
    await first.stop()
    again = ApiServer(home, port=0)
    await again.start()
    async with client_of(again) as http:
        api = Api(http, again)
        assert await api.get(f"{MAPS}/kept") == changed
        assert (await api.call("GET", f"{MAPS}/gone"))[0] == 404
        async with api.watch(MAPS, resourceVersion=made["metadata"]["resourceVersion"]) as events:
            kinds = [
                (event["type"], event["object"]["metadata"]["name"]) for event in [await anext(events) for _ in "123"]
            ]
        assert kinds == [("MODIFIED", "kept"), ("ADDED", "gone"), ("DELETED", "gone")]
        new = await api.create(MAPS, config_map("new"))
        assert int(new["metadata"]["resourceVersion"]) > int(last)
    await again.stop()


async def test_a_second_server_on_the_same_home_is_refused(server: ApiServer) -> None:
    with pytest.raises(OSError, match="another API server .* uses this home"):
        await ApiServer(server.home, port=0).start()


async def test_a_port_in_use_is_named(server: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"port {server.port} of 127.0.0.1 is in use"):
        await ApiServer(tmp_path / "other", port=server.port).start()
    # The home that could not be served is free again.
    other = ApiServer(tmp_path / "other", port=0)
    await other.start()
    await other.stop()


async def test_a_home_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "home", port=0)
    await server.start()
    await server.stop()
    database = sqlite3.connect(tmp_path / "home" / "server" / "store.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(OSError, match="written by a newer version of Mizzen"):
        await ApiServer(tmp_path / "home", port=0).start()


async def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "server"
    folder.mkdir(parents=True)
    (folder / "store.db").write_text("this is not a database, and it is longer than a header of one would be" * 20)
    with pytest.raises(OSError, match="cannot be opened as a store"):
        await ApiServer(tmp_path / "home", port=0).start()


async def test_a_stop_ends_watches(tmp_path: Path) -> None:
    """A watch under way ends as if its time were up: the client's loop goes on elsewhere."""
    server = ApiServer(tmp_path / "home", port=0)
    await server.start()
    async with client_of(server) as http:
        async with Api(http, server).watch(MAPS) as events:
            assert (await anext(events))["type"] == "ADDED"
            stopping = asyncio.create_task(server.stop())
            assert [event async for event in events] == []
        await stopping


async def test_a_stopped_server_can_be_stopped_again(tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "home", port=0)
    await server.start()
    await server.stop()
    await server.stop()


async def test_statistics(api: Api) -> None:
    before = api.server.statistics()
    await api.create(MAPS, config_map("one"))
    after = api.server.statistics()
    assert (after.objects - before.objects, after.writes - before.writes) == (1, 1)
    assert after.revision == before.revision + 1
