"""Features of requests run in workers of their own, and are what the same functions give in a training set."""

import json
import math
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.features.builders import payments, times, view
from tests.serving.builders import doubling_model, spec
from tests.serving.features.builders import push
from tests.serving.stack import Stack, eventually

from mizzen.data.entrypoint import load_function
from mizzen.data.features.definition import definition_of
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.data.features.request import with_request_features
from mizzen.data.lake.code import bundle, put_bundle
from mizzen.data.lake.objects import Store
from mizzen.kinds import FeatureView
from mizzen.serving.arrow import read, written
from mizzen.serving.functions import WANTED
from mizzen.serving.gateway.directory import Endpoint, Lookup, Version, View, ViewUse
from mizzen.serving.tensors import Signature
from mizzen.serving.worker.errors import BatchError, InvalidBatchError, TaskError
from mizzen.serving.worker.functions import FunctionsRuntime

CODE = """
import numpy as np

def jump(amount, spent):
    return amount / spent

def shape(jump, shop):
    return np.round(jump, 3) + np.array([len(name) for name in shop])

def breaks(amount):
    raise ValueError("no such thing")

def short(amount):
    return amount[:-1]
"""
AGGREGATIONS = [{"name": "spent", "function": "sum", "column": "amount"}]
REQUEST = [
    {"name": "shape", "function": "spending_code:shape", "inputs": ["jump", "shop"]},
    {"name": "jump", "function": "spending_code:jump", "inputs": ["amount", "spent"]},
]
ROWS = [("a", -30, 5.0), ("a", -20, 7.0), ("b", -15, 1.0)]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "spending_code.py").write_text(textwrap.dedent(CODE))
    return folder


def runtime(code: Path, *request: dict) -> FunctionsRuntime:
    declared = view(aggregations=AGGREGATIONS, request=[*request] or REQUEST)
    return FunctionsRuntime(definition_of(declared), code)


def asked(made: FunctionsRuntime, rows: pa.Table, wanted: str) -> dict:
    data = np.array([written(rows, {WANTED: wanted.encode()})], dtype=object)
    return read(made.run({"rows": data})[0].item()).to_pydict()


def test_a_worker_computes_what_is_wanted_and_what_that_is_made_of(code):
    rows = pa.table({"amount": [3.0, 4.0], "spent": [12.0, None], "shop": ["x", "yy"]})
    made = runtime(code)
    assert asked(made, rows.select(["amount", "spent"]), "jump") == {"jump": [0.25, None]}
    found = asked(made, rows, "shape")["shape"]
    assert found[0] == 1.25
    assert found[1] is None


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        ({"name": "x", "function": "spending_code:breaks", "inputs": ["amount"]}, "ValueError: no such thing (spending_code.py"),
        ({"name": "x", "function": "spending_code:short", "inputs": ["amount"]}, "to return 2 values, found 1"),
        ({"name": "x", "function": "spending_code:jump", "inputs": ["amount", "other"]}, "expected other with the request"),
    ],
)  # fmt: skip
def test_a_function_that_fails_is_told_and_the_worker_goes_on(code, feature, says):
    made = runtime(code, feature)
    with pytest.raises(BatchError) as error:
        asked(made, pa.table({"amount": [3.0, 4.0]}), "x")
    assert says in str(error.value)


def test_what_is_no_table_is_refused(code):
    with pytest.raises(InvalidBatchError, match="expected an Arrow IPC stream"):
        runtime(code).run({"rows": np.array([b"no"], dtype=object)})


def test_a_function_that_is_not_there_is_told_at_the_start(code):
    with pytest.raises(TaskError, match="expected a function nothing in module spending_code"):
        runtime(code, {"name": "x", "function": "spending_code:nothing", "inputs": ["amount"]})


def declared(code: Path, store: Store) -> FeatureView:
    digest = put_bundle(store, bundle(code))
    return view(aggregations=AGGREGATIONS, request=REQUEST, code=digest)


def test_answers_are_those_of_a_training_set(code, tmp_path):
    """Real processes: a gateway, a worker of the model, a worker of the functions; killed, and started again."""
    with Stack() as stack:
        lake = Store.open(f"file://{stack.root}/store")
        (stack.root / "store").mkdir(exist_ok=True)
        spending = declared(code, lake)
        now_us = 4_000_000_000_000_000
        events = payments(ROWS, "card paid_at amount")
        online = f"lmdb://{tmp_path}/online"
        store = open_store(online)
        push(store, spending, events, now_us)
        store.close()
        model = doubling_model(4)
        takes = Signature(
            (spec("x", "FP32", (-1, 4)),), (spec("y", "FP32", (-1, 4)),), ("spent", "jump", "amount", "shape")
        )
        digest = stack.put(model)
        lookup = Lookup((ViewUse("spending"),), {"shop": "text"})
        stack.endpoints["m"] = Endpoint(
            "default", "m", anonymous=True, versions=(Version("m", 1, digest, signature=takes),), features=lookup
        )
        stack.views = [View("default", "spending", spending.spec.digest())]
        stack.worker(digest)
        wanted = {"view": spending.to_wire(), "used": {}, "module": "mizzen.serving.worker.functions"}
        functions = stack.worker(spending.spec.digest(), "featureview/spending", 0, **wanted)
        stack.start_gateway(1, "--online", online)
        asked = [{"card": "a", "amount": 3.0, "shop": "x"}, {"card": "z", "amount": 2.0, "shop": "long"}] * 20
        with stack.client() as client:
            body = {"instances": asked}
            answer = client.ask("POST", "/v1/endpoints/m:predict", json.dumps(body).encode())
            assert answer.status == 200, answer
            found = np.array([row["y"] for row in answer.json["predictions"]], dtype=float)
            spine = pa.table(
                {
                    "card": [a["card"] for a in asked],
                    "asked_at": times([60] * len(asked)),
                    "amount": [a["amount"] for a in asked],
                    "shop": [a["shop"] for a in asked],
                }
            )
            offline = with_request_features(
                join(spine, [Use(definition_of(spending), InMemory(events))], Clocks("asked_at")),
                definition_of(spending),
                lambda name: load_function(code, name),
            )
            expected = np.column_stack([2 * offline.column(n).to_numpy().astype("f4") for n in takes.columns])
            np.testing.assert_array_equal(found, expected)
            assert math.isnan(found[1, 0])
            functions.kill()
            one = json.dumps({"instances": asked[:1]}).encode()
            lost = client.ask("POST", "/v1/endpoints/m:predict", one, {"Request-Timeout-Ms": "300"})
            assert lost.status == 503, lost
            stack.forget(functions)
            stack.worker(spending.spec.digest(), "featureview/spending", 0, **wanted)
            eventually(lambda: client.ask("POST", "/v1/endpoints/m:predict", one).status == 200, "functions are back")
