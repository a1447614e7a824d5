"""Requests that say when they are asked get what held then; those that do not say it rightly are told so."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.features.builders import START
from tests.serving.features.builders import FeatureStage, declared, inputs_of, matrix
from tests.serving.played import Call, version

from mizzen.serving.gateway.directory import Endpoint, Lookup, ViewUse

pytestmark = pytest.mark.looptime
MODEL = matrix("spent", "n")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[FeatureStage]:
    """It is 20 minutes after the start; windows are of one hour."""
    made = FeatureStage(tmp_path)
    made.minutes = 20
    made.tell(declared())
    made.push([("a", 0, 5.0, 100.0), ("a", 10, 7.0, 200.0), ("a", 30, 9.0, 200.0)])
    lookup = Lookup((ViewUse("spending"),), time="asked_at")
    made.gateway.endpoint_changed(
        Endpoint("default", "m", anonymous=True, versions=(version(takes=MODEL),), features=lookup)
    )
    yield made
    made.features.close()


def asked_at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


async def answered(stage: FeatureStage, link: Any, call: Call) -> Any:
    await asyncio.sleep(0.01)
    if not call.reply.answered:
        link.answer_rows()
    return call.reply


@pytest.mark.parametrize(("minutes", "spent", "n"), [(20, 12, 2), (45, 21, 3), (60, 16, 2), (71, 9, 1), (90, 0, 0)])
async def test_features_are_of_the_moment_that_the_request_names(stage, minutes, spent, n):
    """Also where the store was written before: later events are there, and older ones have left."""
    link = stage.work(MODEL)
    row = {"card": "a", "asked_at": asked_at(minutes)}
    await answered(stage, link, stage.predict(row, row))
    ((inputs,),) = link.inputs
    found = [[0.0 if math.isnan(value) else value for value in line] for line in inputs_of(inputs).tolist()]
    assert found == [[spent, n]] * 2


async def test_what_a_request_must_carry_is_told(stage):
    stage.work(MODEL)
    await asyncio.sleep(0.01)
    told = stage.get("/v2/models/m").json
    assert [(each["name"], each["datatype"]) for each in told["inputs"]] == [("card", "BYTES"), ("asked_at", "BYTES")]


@pytest.mark.parametrize(
    ("moments", "words"),
    [
        (["2026-01-31T12:00:00"], "expected a time with a zone"),
        (["yesterday"], "expected a time with a zone such as 2026-01-31T12:00:00Z, found 'yesterday'"),
        (["2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z"], "expected one moment for all rows of a request, found 2"),
    ],
)
async def test_a_moment_that_is_none_is_refused(stage, moments, words):
    link = stage.work(MODEL)
    reply = await answered(stage, link, stage.predict(*({"card": "a", "asked_at": each} for each in moments)))
    assert reply.status == 400
    assert words in reply.json["error"]
