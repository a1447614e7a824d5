"""Name and age of any object, until `schema.table` is there."""

from collections.abc import Sequence
from datetime import datetime

from mizzen.local.apiserver.types import Json, ResourceType


def table(_rtype: ResourceType, objects: Sequence[Json], _include_object: str, _now: datetime) -> Json:
    columns = [("Name", "string", "name"), ("Created At", "date", "")]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            {"name": name, "type": kind, "format": form, "description": "", "priority": 0}
            for name, kind, form in columns
        ],
        "rows": [
            {
                "cells": [obj["metadata"]["name"], obj["metadata"]["creationTimestamp"]],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": obj["metadata"],
                },
            }
            for obj in objects
        ],
    }
