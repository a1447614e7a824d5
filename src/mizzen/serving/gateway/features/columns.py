"""What a request must carry, and where each of the model's columns comes from.

A column of the model is a feature of one of the views (with the use's prefix before its name), or it is a column of the
request. What a request carries besides are the views' keys, and what features of the request are made of. So the
signature that clients see (`asked`) follows from the model's and from the views.

A model takes one matrix with named columns, or an input for each column. Rows are put together in the order of parts:
the features of the first view, of the second, …, what the request gave; `order` brings them into the model's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.features.definition import Definition
from mizzen.data.features.errors import RequestUnfit
from mizzen.data.features.online.view import OnlineView
from mizzen.serving.gateway.directory import ViewUse
from mizzen.serving.rows import matrix_of
from mizzen.serving.tensors import Signature, TensorSpec

DATATYPES_OF = {"boolean": "BOOL", "int64": "INT64", "float32": "FP32", "float64": "FP64", "text": "BYTES"}
"""Of the types that columns of a request are declared with."""


@dataclass(frozen=True, slots=True)
class Used:
    """One view as it is used."""

    use: ViewUse
    view: OnlineView
    names: tuple[str, ...]
    """The stored features that are read, in order."""
    made: tuple[str, ...]
    """The features of the request."""
    keys: tuple[str, ...]
    """The columns of the request that hold its keys."""

    @property
    def columns(self) -> list[str]:
        """The names of what it gives, as the model has them."""
        return [self.use.prefix + name for name in (*self.names, *self.made)]


def used(use: ViewUse, view: OnlineView) -> Used:
    """Raises `RequestUnfit` where the use names features or keys that the view has not."""
    definition = view.definition
    wanted = use.features or definition.features
    if unknown := [name for name in wanted if name not in definition.features]:
        raise RequestUnfit(
            f"FeatureView {definition.name}: expected features of {', '.join(definition.features)}, found "
            f"{', '.join(unknown)}"
        )
    known = {key.name for key in definition.keys}
    if unknown := [name for name in use.keys if name not in known]:
        raise RequestUnfit(
            f"FeatureView {definition.name}: expected keys of {', '.join(sorted(known))}, found {', '.join(unknown)}"
        )
    made = tuple(feature.name for feature in definition.request if feature.name in wanted)
    return Used(
        use, view,
        names=tuple(name for name in definition.stored if name in wanted),
        made=made,
        keys=tuple(use.keys.get(key.name, key.name) for key in definition.keys),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How the inputs of one model are made."""

    model: Signature
    asked: Signature
    """What requests carry: an input of shape (n, 1) for each column."""
    matrix: TensorSpec | None
    """The model's only input, where its columns have names."""
    parts: tuple[tuple[str, ...], ...]
    """Of each view, the stored features that the model takes."""
    made: tuple[tuple[str, ...], ...]
    """Of each view, the features of the request that the model takes."""
    given: tuple[int, ...]
    """The columns of the request that the model takes."""
    order: tuple[int, ...]
    """For each of the model's columns its place among the features, what was made, and what was given."""
    entities: tuple[tuple[int, ...], ...]
    """For each view, the columns of the request that hold its keys."""
    moment: int | None = None
    """The column of the request that says when it is asked; `None`: when it comes."""


def planned(model: Signature, views: Sequence[Used], types: Mapping[str, str], time: str | None = None) -> Plan:
    """Raises `RequestUnfit` where the model's columns cannot be made of the views and a request."""
    if not model.batchable:
        raise RequestUnfit("features: expected a model that takes rows, whose inputs and outputs begin with -1")
    matrix = matrix_of(model)
    columns = list(model.columns) if matrix is not None else [spec.name for spec in model.inputs]
    stored, made = _features(views)
    parts = tuple(tuple(n for n in one.names if one.use.prefix + n in columns) for one in views)
    makes = tuple(tuple(n for n in one.made if one.use.prefix + n in columns) for one in views)
    asked = _asked(model, matrix, views, makes, {*stored, *made}, types)
    if time is not None:
        asked = _with_moment(asked, time)
    names = [spec.name for spec in asked]
    given = tuple(names.index(name) for name in columns if name not in stored and name not in made)
    places = [views[at].use.prefix + name for at, part in enumerate(parts) for name in part]
    places += [views[at].use.prefix + name for at, part in enumerate(makes) for name in part]
    places += [names[at] for at in given]
    for at, one in enumerate(views):
        types_of = {slot.name: slot.type for slot in one.view.layout.slots}
        types_of |= {feature.name: feature.type for feature in one.view.definition.request}
        for name in (*parts[at], *makes[at]):
            spec = matrix or model.inputs[columns.index(one.use.prefix + name)]
            _expect_fit(types_of[name], one, name, spec, matrix)
    return Plan(
        model, Signature(tuple(asked), model.outputs), matrix, parts, makes, given,
        order=tuple(places.index(name) for name in columns),
        entities=tuple(tuple(names.index(key) for key in one.keys) for one in views),
        moment=None if time is None else names.index(time),
    )  # fmt: skip


def _features(views: Sequence[Used]) -> tuple[set[str], set[str]]:
    """Names of all stored features and of those of requests. Raises `RequestUnfit` where two have one name."""
    seen: dict[str, str] = {}
    for one in views:
        for name in one.columns:
            if name in seen:
                raise RequestUnfit(
                    f"features: expected names that differ, found {name} in {seen[name]} and {one.use.view}; "
                    "give one a prefix"
                )
            seen[name] = one.use.view
    made = {one.use.prefix + name for one in views for name in one.made}
    return seen.keys() - made, made


def _asked(
    model: Signature,
    matrix: TensorSpec | None,
    views: Sequence[Used],
    makes: Sequence[Sequence[str]],
    features: set[str],
    types: Mapping[str, str],
) -> list[TensorSpec]:
    asked: dict[str, TensorSpec] = {}

    def ask(name: str, datatype: str, shape: tuple[int, ...] = (-1, 1), *, key: bool = False) -> None:
        found = asked.setdefault(name, TensorSpec(name, datatype, shape))
        if key and found.datatype != datatype:
            raise RequestUnfit(f"features: expected one type of the key {name}, found {found.datatype} and {datatype}")

    for one in views:
        for name, type_ in zip(one.keys, one.view.key_types, strict=True):
            ask(name, "INT64" if pt.is_integer(type_) else "BYTES", key=True)
    if matrix is not None:
        for name in model.columns:
            if name not in features:
                ask(name, matrix.datatype)
    else:
        for spec in model.inputs:
            if spec.name not in features:
                ask(spec.name, spec.datatype, spec.shape)
    for one, wanted in zip(views, makes, strict=True):
        known = {*one.view.definition.stored, *(key.name for key in one.view.definition.keys)}
        for name in inputs_of(one.view.definition, wanted):
            if name not in known and "." not in name and name not in asked:
                ask(name, DATATYPES_OF[types.get(name, "float64")])
    return list(asked.values())


def _with_moment(asked: list[TensorSpec], time: str) -> list[TensorSpec]:
    """And the column that says when it is asked. Raises `RequestUnfit` where that is something else already."""
    found = next((spec.datatype for spec in asked if spec.name == time), "BYTES")
    if found != "BYTES":
        raise RequestUnfit(f"features.time: expected a column of the request with times as text, found {time}: {found}")
    return asked if any(spec.name == time for spec in asked) else [*asked, TensorSpec(time, "BYTES", (-1, 1))]


def inputs_of(definition: Definition, wanted: Sequence[str]) -> list[str]:
    """What the functions of these features of requests take, without features of requests themselves."""
    names, taken = set(wanted), list[str]()
    for feature in reversed(definition.request):
        if feature.name in names:
            names |= set(feature.inputs)
            taken += feature.inputs
    made = {feature.name for feature in definition.request}
    return [name for name in dict.fromkeys(taken) if name not in made]


def _expect_fit(type_: pa.DataType, one: Used, name: str, spec: TensorSpec, matrix: TensorSpec | None) -> None:
    """Raises `RequestUnfit` where a feature cannot be a column of that input."""
    number = pt.is_integer(type_) or pt.is_floating(type_) or pt.is_boolean(type_)
    vector = pt.is_fixed_size_list(type_) and (-1, type_.list_size) == spec.shape and matrix is None
    text = pt.is_string(type_) or pt.is_large_string(type_) or pt.is_binary(type_)
    if (spec.datatype == "BYTES" and text) or (spec.datatype not in {"BYTES", "BF16"} and (number or vector)):
        return
    raise RequestUnfit(
        f"FeatureView {one.use.view}: expected {name} to be {spec.datatype} of shape {list(spec.shape)} as the "
        f"model's input {spec.name} is, found {type_}"
    )
