"""An endpoint described for tools and people: an OpenAPI 3.1 document made from its model's signature.

It describes the two ways to ask: rows by column name, and the Open Inference Protocol's JSON. What it says of a request
is what the gateway checks.
"""

from typing import Any

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.paths import DEFAULT_NAMESPACE
from mizzen.serving.gateway.service import Service
from mizzen.serving.rows import matrix_of, row_shape
from mizzen.serving.tensors import DATATYPES, Signature, TensorSpec

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "Where, what was expected, what was found."}},
}
_REFUSALS = {
    "400": "The request does not fit the signature.",
    "401": "No API key, or an unknown one.",
    "403": "The API key is not for this endpoint.",
    "413": "The request is larger than this endpoint takes.",
    "429": "The queue is full; Retry-After says when to come again.",
    "503": "No worker is there; Retry-After says when to come again.",
    "504": "No answer within the request's time.",
}
_BEYOND = {"FP16": 65520.0, "BF16": (2 - 2**-8) * 2.0**127, "FP32": (2 - 2**-24) * 2.0**127}
"""The least number that rounds to infinity, where a number of JSON can be as large."""


def document(service: Service, number: int | None) -> dict[str, Any]:
    """The document of one endpoint. Raises `HttpError` where its signature is not known yet."""
    endpoint = service.endpoint
    found = service.signature(number)
    if found is None:
        raise HttpError(503, f"{endpoint.name}: what it takes is not known yet", "not_ready")
    version, signature = found
    prefix = "" if endpoint.namespace == DEFAULT_NAMESPACE else f"/namespaces/{endpoint.namespace}"
    paths = {f"{prefix}/v2/models/{endpoint.name}/infer": _operation("infer", "Tensors", *_tensors(signature))}
    if signature.batchable:
        rows = _operation("predict", "Rows by column name", *_rows(signature))
        paths = {f"{prefix}/v1/endpoints/{endpoint.name}:predict": rows, **paths}
    components: dict[str, Any] = {"schemas": {"Error": _ERROR}}
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": endpoint.name, "version": str(version.version), "summary": f"Model {version.model}"},
        "paths": paths,
        "components": components,
    }
    if not endpoint.anonymous:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
    return described


def _operation(name: str, summary: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    def content(schema: dict[str, Any]) -> dict[str, Any]:
        return {"content": {"application/json": {"schema": schema}}}

    refusals = {
        status: {"description": meaning, **content({"$ref": "#/components/schemas/Error"})}
        for status, meaning in _REFUSALS.items()
    }
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, **content(request)},
            "responses": {"200": {"description": "The answer.", **content(answer)}, **refusals},
        }
    }


def _rows(signature: Signature) -> tuple[dict[str, Any], dict[str, Any]]:
    matrix = matrix_of(signature)
    if matrix is not None:
        columns = {name: _element(matrix) for name in signature.columns}
    else:
        columns = {spec.name: _value(spec) for spec in signature.inputs}
    row = {"type": "object", "required": list(columns), "properties": columns, "additionalProperties": False}
    outputs = {spec.name: _value(spec) for spec in signature.outputs}
    return (
        _object(instances={"type": "array", "minItems": 1, "items": row}),
        _object(
            model_name={"type": "string"},
            model_version={"type": "string"},
            predictions={"type": "array", "items": _object(**outputs)},
        ),
    )


def _tensors(signature: Signature) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs = [_tensor(spec) for spec in signature.inputs]
    outputs = [_tensor(spec) for spec in signature.outputs]
    request = _object(
        inputs={"type": "array", "minItems": len(inputs), "maxItems": len(inputs), "items": {"oneOf": inputs}}
    )
    request["properties"]["id"] = {"type": "string"}
    answer = _object(
        model_name={"type": "string"}, model_version={"type": "string"},
        outputs={"type": "array", "items": {"oneOf": outputs}},
    )  # fmt: skip
    return request, answer


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    lengths = [{"type": "integer", "minimum": 0} if length == -1 else {"const": length} for length in spec.shape]
    return _object(
        name={"const": spec.name},
        datatype={"const": spec.datatype},
        shape={"type": "array", "prefixItems": lengths, "items": False, "minItems": len(lengths)},
        data={"type": "array", "description": "Row-major, flat or nested as the shape is."},
    )


def _value(spec: TensorSpec) -> dict[str, Any]:
    schema = _element(spec)
    for length in reversed(row_shape(spec)):
        schema = {"type": "array", "items": schema}
        if length != -1:
            schema |= {"minItems": length, "maxItems": length}
    return schema


def _element(spec: TensorSpec) -> dict[str, Any]:
    datatype = DATATYPES[spec.datatype]
    if datatype.json == "number":
        number = {"type": ["number", "null"], "format": datatype.name.lower()}
        beyond = _BEYOND.get(datatype.name)
        return number if beyond is None else {**number, "exclusiveMinimum": -beyond, "exclusiveMaximum": beyond}
    if datatype.json == "integer":
        bits = 8 * datatype.size
        signed = datatype.name.startswith("I")
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return {"type": "integer", "minimum": low, "maximum": high}
    return {"type": datatype.json}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
