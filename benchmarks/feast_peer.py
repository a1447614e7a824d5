"""Feast, run by the interpreter of an environment of its own: `python feast_peer.py FOLDER FEATURES [REDIS_HOST:PORT]`.

FOLDER holds `events.parquet` and `spine.parquet`. Says its measures as one line of JSON, and writes what its join gave to
`feast.parquet`, so that the answers can be compared.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import feast
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

SECONDS = 3.0


def store_of(folder, features, redis):
    online = {"type": "sqlite", "path": str(folder / "online.db")}
    if redis:
        online = {"type": "redis", "connection_string": redis}
    config = RepoConfig(
        project="bench",
        registry=str(folder / f"registry-{bool(redis)}.db"),
        provider="local",
        online_store=online,
        offline_store={"type": "duckdb"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    source = FileSource(name="events", path=str(folder / "events.parquet"), timestamp_field="at")
    view = FeatureView(
        name="view",
        entities=[entity],
        ttl=timedelta(days=400),
        schema=[Field(name=f"f{n}", dtype=Float64) for n in range(features)],
        source=source,
        online=True,
    )
    store.apply([entity, view])
    return store


def reads(store, names, keys, rows):
    """Microseconds of each read, over some seconds."""
    taken = []
    end = time.perf_counter() + SECONDS
    at = 0
    while time.perf_counter() < end:
        wanted = [{"key": keys[(at + n) % len(keys)]} for n in range(rows)]
        began = time.perf_counter_ns()
        store.get_online_features(features=names, entity_rows=wanted).to_dict()
        taken.append((time.perf_counter_ns() - began) / 1e3)
        at += rows
    taken.sort()
    return {"p50": taken[len(taken) // 2], "p99": taken[int(len(taken) * 0.99)]}


def main():
    folder, features = Path(sys.argv[1]), int(sys.argv[2])
    redis = sys.argv[3] if len(sys.argv) > 3 else ""
    names = [f"view:f{n}" for n in range(features)]
    store = store_of(folder, features, redis)
    said = {"version": feast.__version__}
    spine = pq.read_table(folder / "spine.parquet").to_pandas()
    if not redis:
        began = time.perf_counter()
        joined = store.get_historical_features(entity_df=spine, features=names).to_arrow()
        said["join_s"] = time.perf_counter() - began
        pq.write_table(pa.table(joined), folder / "feast.parquet")
    began = time.perf_counter()
    store.materialize(datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    said["materialise_s"] = time.perf_counter() - began
    keys = spine["key"].tolist()
    said["read_1"] = reads(store, names, keys, 1)
    said["read_100"] = reads(store, names, keys, 100)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
