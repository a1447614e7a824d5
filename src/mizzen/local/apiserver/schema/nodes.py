"""A structural schema compiled for speed: each sub-schema becomes a `Node`, made once.

A node holds what pruning and defaulting walk by, and a `table` from a value's class to the check it must pass (`None`:
any value of that class will do; a class that is not there is refused). An object's check looks its fields up in the
tables of their nodes, so that a plain string costs two dictionary look-ups and no call. Checks answer yes or no; why
not is told by `explain`, which is slow and walks only objects that are wrong. A property test holds the two to the same
answers.
"""

from collections.abc import Callable
from types import NoneType
from typing import Any

from mizzen.local.apiserver.schema import formats, rules
from mizzen.local.apiserver.schema.rules import DEFINITION
from mizzen.local.apiserver.types import Json

Check = Callable[[Any], bool]
Table = dict[type, Check | None]

CLASSES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
}
RULES = "x-kubernetes-validations"
META_FIELDS = frozenset({"apiVersion", "kind", "metadata"})
MISSING: Any = object()
_ZERO: dict[str, Any] = {"string": "", "integer": 0, "boolean": False, "object": {}}
"""What Go stores where something that it always writes was not given; whether that is right, `rules` say."""
_NO_ZEROS = (frozenset[str](), frozenset[str]())
INTEGER_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
FLOAT32_MAX = 3.4028234663852886e38


class Node:
    """One sub-schema."""

    __slots__ = (
        "additional", "check", "default", "defaults", "embedded", "fill", "items", "left_out", "native", "null",
        "null_item", "null_value", "nullable", "preserve", "properties", "ruled", "schema", "table", "times",
    )  # fmt: skip

    def __init__(self, schema: Json, *, native: bool) -> None:
        self.schema = schema
        self.native = native
        """Whether this is of a built-in type: what Kubernetes checks in Go (see `rules`) and not by schema."""
        self.properties: dict[str, Node] = {}
        self.additional: Node | None = None
        self.items: Node | None = None
        self.null_item: Any = MISSING
        """What stands for null among the items; nothing where null is kept."""
        self.null_value: Any = MISSING
        """What stands for null among the values of a map of a built-in type."""
        self.default: Any = schema.get("default", MISSING)
        self.defaults: tuple[tuple[str, Any, bool], ...] = ()
        """Of the properties: name, default, whether it may be null."""
        self.nullable: bool = schema.get("nullable", False)
        self.preserve: bool = schema.get("x-kubernetes-preserve-unknown-fields", False)
        self.embedded: bool = schema.get("x-kubernetes-embedded-resource", False)
        definition = schema.get(DEFINITION, "")
        self.fill = rules.fill_of(definition) if definition else None
        self.check = rules.check_of(definition) if definition else None
        self.left_out, self.null = rules.zeros_of(definition, schema) if definition else _NO_ZEROS
        """The properties that are left out when they are zero, and those that are null then."""
        self.times: tuple[tuple[str, int], ...] = ()
        """The properties of a built-in type that are times, and how many digits of a second they are written with."""
        self.table: Table = {}
        self.ruled = bool(schema.get(RULES))
        """Whether there are rules in CEL here or further down (see `cel_rules`)."""

    def accepts(self, value: Any) -> bool:
        """Whether the value is valid."""
        check = self.table.get(value.__class__, refuse)
        return check is None or check(value)


def refuse(_: Any) -> bool:
    return False


def compiled(schema: Json, *, native: bool = False) -> Node:
    """The node of a whole schema; `native` for parts of a built-in type (a whole one says so itself).

    Sub-schemas that are the same object become the same node."""
    return _node(schema, native, {})


def _node(schema: Json, native: bool, made: dict[int, Node]) -> Node:
    native = native or DEFINITION in schema
    known = made.get(id(schema))
    if known is not None:
        return known
    node = made[id(schema)] = Node(schema, native=native)
    node.properties = {name: _node(sub, native, made) for name, sub in schema.get("properties", {}).items()}
    node.defaults = tuple(
        (name, sub.default, sub.nullable) for name, sub in node.properties.items() if sub.default is not MISSING
    )
    if native:
        node.defaults += tuple(
            (name, _ZERO[node.properties[name].schema["type"]], False)
            for name in schema.get("required", ())
            if name not in node.null and node.properties[name].schema.get("type") in _ZERO.keys() - {"object"}
        )
        node.times = tuple(
            (name, 6 if is_micro_time(sub.schema) else 0)
            for name, sub in node.properties.items()
            if sub.schema.get("format") == "date-time"
        )
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        node.additional = _node(additional, native, made)
        if native:
            node.null_value = _ZERO.get(additional.get("type", ""), MISSING)
    elif additional:
        node.additional = Node({"x-kubernetes-preserve-unknown-fields": True, "nullable": True}, native=native)
        node.additional.table = dict.fromkeys((dict, list, str, int, float, bool, NoneType))
    if isinstance(schema.get("items"), dict):
        node.items = _node(schema["items"], native, made)
        if native:
            node.null_item = _ZERO.get(schema["items"].get("type", ""), MISSING)
        elif not node.items.nullable:
            node.null_item = node.items.default
    for name in node.null & node.properties.keys():
        node.properties[name].table[NoneType] = None
    node.ruled = node.ruled or any(
        sub is not None and sub.ruled for sub in (*node.properties.values(), node.additional, node.items)
    )
    node.table.update(_table(node, made))
    return node


def _table(node: Node, made: dict[int, Node]) -> Table:
    schema = node.schema
    types = (
        ["integer", "string"]
        if schema.get("x-kubernetes-int-or-string")
        else [schema["type"]]
        if "type" in schema
        else []
    )
    classes = {cls for name in types for cls in CLASSES[name]} or {cls for group in CLASSES.values() for cls in group}
    only_whole = types and "number" not in types and float in classes
    general = _general_checks(schema, node.native, made)
    table: Table = {}
    for cls in classes:
        checks = [check for check in (_OF_CLASS[cls](node)) if check is not None]
        if cls is float and only_whole:
            checks.insert(0, is_whole)
        table[cls] = _all_of([*checks, *general])
    if node.nullable or not types:
        table[NoneType] = refuse if schema.get("enum") else None
    return table


def _all_of(checks: list[Check]) -> Check | None:
    if not checks:
        return None
    if len(checks) == 1:
        return checks[0]
    ordered = tuple(checks)

    def check_all(value: Any) -> bool:
        for check in ordered:  # noqa: SIM110 - a generator would cost more than most checks
            if not check(value):
                return False
        return True

    return check_all


def _general_checks(schema: Json, native: bool, made: dict[int, Node]) -> list[Check]:
    """What holds for values of every class: `enum` and the logical combinations."""
    checks: list[Check] = []
    if schema.get("enum"):
        allowed = enum_values(schema, native)
        checks.append(lambda value: any(same(value, item) for item in allowed))
    checks += [_node(part, native, made).accepts for part in schema.get("allOf", ())]
    if schema.get("anyOf"):
        any_of = [_node(part, native, made) for part in schema["anyOf"]]
        checks.append(lambda value: any(part.accepts(value) for part in any_of))
    if schema.get("oneOf"):
        one_of = [_node(part, native, made) for part in schema["oneOf"]]
        checks.append(lambda value: sum(part.accepts(value) for part in one_of) == 1)
    if "not" in schema:
        refused = _node(schema["not"], native, made)
        checks.append(lambda value: not refused.accepts(value))
    return checks


def enum_values(schema: Json, native: bool) -> tuple[Any, ...]:
    """What an enum allows: in Go, an empty text is nothing said (`rules` tell where something must be)."""
    return (*schema["enum"], "") if native else tuple(schema["enum"])


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal: 1 is 1.0 and is not true."""
    if left.__class__ is not right.__class__ and bool in {left.__class__, right.__class__}:
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def items_before(schema: Json, old: Any) -> Callable[[int, Any], Any]:
    """Finds the item that was there before, which only lists of type `map` can tell: by the item's keys."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if not isinstance(old, list) or not keys or schema.get("x-kubernetes-list-type") != "map":
        return lambda index, item: MISSING  # noqa: ARG005

    def key_of(item: Any) -> Any:
        return repr([item.get(key) for key in keys]) if isinstance(item, dict) else MISSING

    known = {key_of(item): item for item in old}
    return lambda index, item: known.get(key_of(item), MISSING)  # noqa: ARG005


def is_micro_time(schema: Json) -> bool:
    return bool(schema.get(DEFINITION, "").endswith(".MicroTime"))


def _string_checks(node: Node) -> list[Check | None]:
    schema, checks = node.schema, list[Check | None]()
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None:
        checks.append(lambda value: len(value) <= longest)
    if shortest:
        checks.append(lambda value: len(value) >= shortest)
    if schema.get("pattern"):
        search = formats.pattern(schema["pattern"])
        checks.append(lambda value: search(value) is not None)
    if node.native and schema.get("format") == "quantity":
        checks.append(formats.is_quantity)
    checks.append(text_check(node))
    return checks


def text_check(node: Node) -> Callable[[str], bool] | None:
    """What the format asks of a text; in a built-in type that is what Go reads."""
    schema, name = node.schema, node.schema.get("format", "")
    if node.native and name == "date-time":
        return formats.is_micro_time if is_micro_time(schema) else formats.is_rfc3339
    if node.native and name == "byte":
        return formats.is_go_bytes
    return formats.check_of(name) if schema.get("type") == "string" else None


def _number_checks(node: Node) -> list[Check | None]:
    schema, checks = node.schema, list[Check | None]()
    low, high = number_range(schema)
    if low is not None:
        checks.append(lambda value: low <= value <= high)
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None:
        checks.append((lambda v: v > least) if schema.get("exclusiveMinimum") else (lambda v: v >= least))
    if most is not None:
        checks.append((lambda v: v < most) if schema.get("exclusiveMaximum") else (lambda v: v <= most))
    factor = schema.get("multipleOf")
    if factor is not None:
        checks.append(lambda value: is_multiple(value, factor))
    return checks


def is_whole(value: float) -> bool:
    """Whether a float stands for one integer: beyond 2^53 it stands for several."""
    return value.is_integer() and abs(value) < 2**53


def number_range(schema: Json) -> tuple[float, float] | tuple[None, None]:
    """What the type and format can hold."""
    if schema.get("type") == "integer":
        return INTEGER_RANGES.get(schema.get("format", ""), INTEGER_RANGES["int64"])
    if schema.get("type") == "number" and schema.get("format") == "float":
        return -FLOAT32_MAX, FLOAT32_MAX
    return None, None


def is_multiple(value: float, factor: float) -> bool:
    """As Kubernetes computes it: exactly for integers, else within 1e-9 of a whole multiple."""
    if isinstance(value, int) and float(factor).is_integer():
        return value % int(factor) == 0
    multiple = 1 / factor * value if factor < 1 else value / factor
    return abs(multiple - round(multiple)) <= 1e-9 * max(1.0, abs(multiple))


def _list_checks(node: Node) -> list[Check | None]:
    schema, checks = node.schema, list[Check | None]()
    shortest, longest = schema.get("minItems"), schema.get("maxItems")
    if shortest:
        checks.append(lambda value: len(value) >= shortest)
    if longest is not None:
        checks.append(lambda value: len(value) <= longest)
    if node.items is not None:
        table = node.items.table

        def check_items(value: list[Any]) -> bool:
            for item in value:
                check = table.get(item.__class__, refuse)
                if check is not None and not check(item):
                    return False
            return True

        checks.append(check_items)
    if not node.native and schema.get("x-kubernetes-list-type") in {"map", "set"}:
        checks.append(lambda value: not repeated(schema, value))
    return checks


def repeated(schema: Json, value: list[Any]) -> list[tuple[int, Any]]:
    """The indexes and keys of items that a list of type `map` or `set` has more than once (or that are no objects)."""
    keys = schema.get("x-kubernetes-list-map-keys") if schema["x-kubernetes-list-type"] == "map" else None
    seen: dict[Any, int] = {}
    found = []
    for index, item in enumerate(value):
        if keys is not None and not isinstance(item, dict):
            if item is not None:
                return [(index, MISSING)]
            item = {}  # noqa: PLW2901 - null stands for an object without keys
        key = {name: item[name] for name in keys if name in item} if keys is not None else item
        frozen = hashable(key)
        seen[frozen] = seen.get(frozen, 0) + 1
        if seen[frozen] == 2:
            found.append((index, key))
    return found


def hashable(value: Any) -> Any:
    """A value that is equal for equal JSON only."""
    if isinstance(value, dict):
        return dict, frozenset((key, hashable(item)) for key, item in value.items())
    if isinstance(value, list):
        return list, tuple(hashable(item) for item in value)
    return value.__class__, value


def _object_checks(node: Node) -> list[Check | None]:
    schema, checks = node.schema, list[Check | None]()
    fewest, most = schema.get("minProperties"), schema.get("maxProperties")
    if fewest:
        checks.append(lambda value: len(value) >= fewest)
    if most is not None:
        checks.append(lambda value: len(value) <= most)
    if schema.get("required") and not node.native:
        required = frozenset(schema["required"])
        checks.append(lambda value: required <= value.keys())
    if node.properties or node.additional is not None:
        checks.append(_fields_check(node))
    if node.check is not None:
        find = node.check
        checks.append(lambda value: next(iter(find(value)), None) is None)
    if node.embedded:
        checks.append(lambda value: next(iter(rules.embedded_resource(value)), None) is None)
    return checks


def _fields_check(node: Node) -> Check:
    tables = {name: sub.table for name, sub in node.properties.items()}
    additional = node.additional.table if node.additional is not None else None

    def check_fields(value: Json) -> bool:
        for name, item in value.items():
            table = tables.get(name, additional)
            if table is not None:
                check = table.get(item.__class__, refuse)
                if check is not None and not check(item):
                    return False
        return True

    return check_fields


_OF_CLASS: dict[type, Callable[[Node], list[Check | None]]] = {
    str: _string_checks,
    int: _number_checks,
    float: _number_checks,
    list: _list_checks,
    dict: _object_checks,
    bool: lambda _: [],
}
