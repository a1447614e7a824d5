"""Objects as a Table, which is what `kubectl get` asks for: columns, and a row of cells for each object.

Built-in kinds have computed columns (`rows`); custom ones have those of their definition, found by JSONPath.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from mizzen.local.apiserver.schema import jsonpath
from mizzen.local.apiserver.schema.ages import human_duration, parsed_time
from mizzen.local.apiserver.schema.causes import json_text, number
from mizzen.local.apiserver.schema.rows import CREATED_AT, NAME, ROWS
from mizzen.local.apiserver.types import Column, Json, ResourceType

IncludeObject = Literal["Metadata", "None", "Object"]


def table(
    rtype: ResourceType,
    objects: Iterable[Json],
    include_object: str,
    now: datetime,
    list_meta: Json,
    *,
    headers: bool = True,
    version: str = "v1",
) -> Json:
    """A `meta.k8s.io/v1` Table of these objects of one type.

    `include_object` is the request's parameter (`Metadata` where it says nothing); `now` is an aware time, for ages;
    `list_meta` is the list's metadata (of one object: its resourceVersion). Without `headers`, a watch's later events.
    """
    columns, rows = columns_of(rtype), []
    for obj in objects:
        row: Json = {"cells": cells_of(rtype, obj, now)}
        if include_object == "Object":
            row["object"] = obj
        elif include_object != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": f"meta.k8s.io/{version}",
                "metadata": obj["metadata"],
            }
        rows.append(row)
    answer: Json = {"kind": "Table", "apiVersion": f"meta.k8s.io/{version}", "metadata": list_meta}
    answer["columnDefinitions"] = [_definition(column) for column in columns] if headers else None
    answer["rows"] = rows
    return answer


def _definition(column: Column) -> Json:
    described = column.description
    if not described and column.json_path:
        described = f"Custom resource definition column (in JSONPath format): {column.json_path}"
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": described,
        "priority": column.priority,
    }


def columns_of(rtype: ResourceType) -> Sequence[Column]:
    """The columns of a type, the name first."""
    if rtype.custom:
        return (NAME, *rtype.columns)
    return ROWS.get((rtype.group, rtype.kind), CREATED_AT)[0]


def cells_of(rtype: ResourceType, obj: Json, now: datetime) -> list[Any]:
    """The cells of one object, in the order of the columns."""
    if not rtype.custom:
        return ROWS.get((rtype.group, rtype.kind), CREATED_AT)[1](obj, now)
    return [obj["metadata"].get("name", ""), *(_custom_cell(column, obj, now) for column in rtype.columns)]


def _custom_cell(column: Column, obj: Json, now: datetime) -> Any:
    try:
        value = jsonpath.first(column.json_path, obj)
    except jsonpath.PathError:
        return None
    if value is None:
        return None
    if column.type == "string":
        return _printed(value)
    if column.type == "date":
        return _ago(value, now)
    if column.type == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if column.type == "integer" else value
    return None


def _printed(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) else json_text(value)


def _ago(value: Any, now: datetime) -> str | None:
    if not isinstance(value, str):
        return None
    then = parsed_time(value)
    return "<invalid>" if then is None else human_duration((now - then).total_seconds())
