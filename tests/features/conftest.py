"""Online stores of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.data.conftest import s3, s3_endpoint  # noqa: F401 - fixtures: an S3 server of this test run
from tests.features.stores import SERVER, redis_server

from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.redis_store import RedisStore
from mizzen.data.features.online.store import OnlineStore


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if SERVER is None:
        pytest.skip("expected a redis-server or valkey-server on the path, found none")
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def lmdb_store(tmp_path: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(tmp_path / "online", map_bytes=1 << 30, durable=False)
    yield store
    store.close()


@pytest.fixture(params=["lmdb", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    """An empty store of each kind."""
    if request.param == "lmdb":
        yield request.getfixturevalue("lmdb_store")
        return
    url = request.getfixturevalue("redis_url")
    redis.Redis.from_url(url).flushall()
    made = RedisStore(url)
    yield made
    made.close()
