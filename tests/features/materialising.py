"""Materialises a version in small steps and says each: `python materialising.py STORE FOLDER VERSION`."""

import sys
from pathlib import Path

from tests.features.test_materialise import NOW, rows_of, writer_to
from tests.features.test_online import us

from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.materialise import materialise
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table

if __name__ == "__main__":
    url, folder, version = sys.argv[1:]
    source = Table(Store.open(url), "default", "payments").at(int(version))
    writer = writer_to(LmdbStore(Path(folder), durable=False), rows_of(0, 1))
    materialise(writer, source, lambda: us(NOW), step_rows=50, stepped=lambda _: print("step", flush=True))
