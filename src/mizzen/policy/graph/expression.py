"""Conditions over tensors: `score > 3 and country in ["NL", "BE"]`.

A small part of Python's expressions: comparisons, `and or not`, arithmetic, `in` over constants, the functions below,
an input by its name (`inputs["odd-name"]` where that is no word) and one of its columns by number (`x[2]`). There are
no attributes and no other calls, so what a manifest says can do nothing but compute.

A condition is judged for each row by itself. In a row an input is a number, text or truth value where it has one
element, else several: those are taken apart by column, or summed up by `min max sum mean any all`. What comes out has
to be one truth value a row. With a missing number (NaN) no comparison holds but `!=`.

Everything is checked when the graph is declared: names, kinds of values, columns; the error says at which column of the
text. Compiled, a condition is a tree of closures over numpy arrays of shape (rows, elements), elements 1 for a single
value.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mizzen.policy.graph.ports import Ports, Type

CHARACTERS_MAX = 2000
Array = NDArray[Any]
Columns = Mapping[str, Array]
"""Inputs by name, each of shape (rows, elements); text as objects of type `str`."""
Kind = Literal["number", "text", "truth"]
_Compute = Callable[[Columns], Array]

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARISON: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_REDUCTIONS: dict[str, tuple[Kind, Callable[..., Any]]] = {
    "min": ("number", np.min),
    "max": ("number", np.max),
    "sum": ("number", np.sum),
    "mean": ("number", np.mean),
    "any": ("truth", np.any),
    "all": ("truth", np.all),
}
_ELEMENTWISE: dict[str, tuple[Kind, Callable[[Array], Array]]] = {
    "abs": ("number", np.abs),
    "isnan": ("truth", np.isnan),
}


class ExpressionError(ValueError):
    """The text is no condition over these inputs; the message says where and why."""


@dataclass(frozen=True, slots=True)
class _Value:
    kind: Kind
    single: bool
    """One value for each row."""
    compute: _Compute


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition."""

    text: str
    inputs: frozenset[str]
    """The inputs it looks at."""
    _compute: _Compute

    def holds(self, columns: Columns, rows: int) -> NDArray[np.bool_]:
        """For each row, whether it holds; shape (rows,)."""
        with np.errstate(all="ignore"):
            found = np.broadcast_to(self._compute(columns), (rows, 1))
        return found[:, 0].astype(np.bool_)


def names_in(text: str) -> frozenset[str]:
    """The inputs a condition looks at. Raises `ExpressionError` where the text does not parse."""
    names: set[str] = set()
    waiting: list[ast.AST] = [_parsed(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Subscript) and _is_inputs(node.value) and isinstance(node.slice, ast.Constant):
            names.add(str(node.slice.value))
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Call):
            waiting += node.args
        else:
            waiting += ast.iter_child_nodes(node)
    return frozenset(names)


def compiled(text: str, inputs: Ports) -> Condition:
    """The condition over these inputs. Raises `ExpressionError`."""
    value = _Compiler(inputs).value(_parsed(text))
    if value.kind != "truth":
        raise ExpressionError(f"expected something that holds or does not, found a {value.kind}: compare it")
    if not value.single:
        raise ExpressionError("expected one truth value for each row, found several: take any(…), all(…) or a column")
    return Condition(text, names_in(text), value.compute)


def _parsed(text: str) -> ast.expr:
    if len(text) > CHARACTERS_MAX:
        raise ExpressionError(f"expected at most {CHARACTERS_MAX} characters, found {len(text)}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"expected an expression: {error.msg} (column {error.offset})") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"expected an expression that can be read: {error}") from error


def _is_inputs(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "inputs"


class _Compiler:
    def __init__(self, inputs: Ports) -> None:
        self._inputs = inputs

    def value(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._input(node, node.id)
            case ast.Subscript():
                return self._subscript(node)
            case ast.BoolOp():
                return self._logic(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                return self._arithmetic(node)
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
        raise _wrong(node, "expected inputs, numbers, text, comparisons, and, or, not, + - * / % and functions "
                           f"({', '.join((*_REDUCTIONS, *_ELEMENTWISE))})")  # fmt: skip

    def _constant(self, node: ast.Constant) -> _Value:
        value = node.value
        if isinstance(value, bool):
            return _Value("truth", True, _always(np.array([[value]])))
        if isinstance(value, int | float):
            if abs(value) > 2**63:
                raise _wrong(node, "expected a number of at most 64 bits")
            return _Value("number", True, _always(np.array([[value]])))
        if isinstance(value, str):
            return _Value("text", True, _always(np.array([[value]], dtype=object)))
        raise _wrong(node, "expected a number, text, True or False")

    def _input(self, node: ast.expr, name: str) -> _Value:
        type_ = self._inputs.get(name)
        if type_ is None:
            known = ", ".join(self._inputs) or "there is none"
            raise _wrong(node, f"expected an input ({known}), found {name!r}")
        kind: Kind = {"BYTES": "text", "BOOL": "truth"}.get(type_.datatype, "number")  # type: ignore[assignment]
        return _Value(kind, elements_of_row(type_) == 1, lambda columns: columns[name])

    def _subscript(self, node: ast.Subscript) -> _Value:
        place = node.slice
        if not isinstance(place, ast.Constant):
            raise _wrong(node, "expected a column by its number, or inputs[NAME]")
        if _is_inputs(node.value) and isinstance(place.value, str):
            return self._input(node, place.value)
        value, column = self.value(node.value), place.value
        if not isinstance(column, int) or isinstance(column, bool) or column < 0:
            raise _wrong(node, "expected a column by its number, from 0 on")
        size = self._elements(node.value)
        if size is not None and column >= size:
            raise _wrong(node, f"expected a column below {size}, found {column}")
        return _Value(value.kind, True, lambda columns: value.compute(columns)[:, column : column + 1])

    def _elements(self, node: ast.expr) -> int | None:
        name = node.id if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            name = node.slice.value if isinstance(node.slice.value, str) else None
        type_ = self._inputs.get(name) if name is not None else None
        return elements_of_row(type_) if type_ is not None else None

    def _logic(self, node: ast.BoolOp) -> _Value:
        values = [self._of_kind(value, "truth") for value in node.values]
        return _all_of(values) if isinstance(node.op, ast.And) else _any_of(values)

    def _unary(self, node: ast.UnaryOp) -> _Value:
        if isinstance(node.op, ast.Not):
            value = self._of_kind(node.operand, "truth")
            return _Value("truth", value.single, lambda columns: np.logical_not(value.compute(columns)))
        value = self._of_kind(node.operand, "number")
        if isinstance(node.op, ast.USub):
            return _Value("number", value.single, lambda columns: -_wide(value.compute(columns)))
        if isinstance(node.op, ast.UAdd):
            return value
        raise _wrong(node, "expected not, - or +")

    def _arithmetic(self, node: ast.BinOp) -> _Value:
        left, right = self._of_kind(node.left, "number"), self._of_kind(node.right, "number")
        apply = _ARITHMETIC[type(node.op)]
        return _Value(
            "number",
            left.single and right.single,
            lambda columns: apply(_wide(left.compute(columns)), _wide(right.compute(columns))),
        )

    def _comparison(self, node: ast.Compare) -> _Value:
        found: list[_Value] = []
        left = self.value(node.left)
        for op, other in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                found.append(self._membership(left, op, other))
                continue
            right = self.value(other)
            if left.kind != right.kind:
                raise _wrong(other, f"expected a {left.kind} to compare with a {left.kind}, found a {right.kind}")
            if type(op) not in _COMPARISON:
                raise _wrong(other, "expected == != < <= > >= or in")
            found.append(_compared(_COMPARISON[type(op)], left, right))
            left = right
        return _all_of(found)

    def _membership(self, left: _Value, op: ast.cmpop, other: ast.expr) -> _Value:
        if not isinstance(other, ast.List | ast.Tuple | ast.Set):
            raise _wrong(other, 'expected constants in brackets, such as ["NL", "BE"]')
        constants = [self.value(item) for item in other.elts if isinstance(item, ast.Constant)]
        if len(constants) != len(other.elts) or any(constant.kind != left.kind for constant in constants):
            raise _wrong(other, f"expected constants, each a {left.kind}")
        values = [constant.compute({})[0, 0] for constant in constants]

        def compute(columns: Columns) -> Array:
            found = left.compute(columns)
            inside = np.zeros(found.shape, np.bool_)
            for value in values:
                inside |= found == value
            return inside if isinstance(op, ast.In) else ~inside

        return _Value("truth", left.single, compute)

    def _call(self, node: ast.Call) -> _Value:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in _REDUCTIONS and name not in _ELEMENTWISE:
            raise _wrong(node, f"expected one of {', '.join((*_REDUCTIONS, *_ELEMENTWISE))}")
        if len(node.args) != 1 or node.keywords:
            raise _wrong(node, f"expected {name}(…) with one argument")
        if name in _REDUCTIONS:
            kind, sum_up = _REDUCTIONS[name]
            value = self._of_kind(node.args[0], kind)
            return _Value(kind, True, lambda columns: sum_up(_wide(value.compute(columns)), axis=1, keepdims=True))
        kind, apply = _ELEMENTWISE[name]
        value = self._of_kind(node.args[0], "number")
        return _Value(kind, value.single, lambda columns: apply(_wide(value.compute(columns))))

    def _of_kind(self, node: ast.expr, kind: Kind) -> _Value:
        value = self.value(node)
        if value.kind != kind:
            raise _wrong(node, f"expected a {kind}, found a {value.kind}")
        return value


def elements_of_row(type_: Type) -> int | None:
    """Elements for each row; of a tensor without rows, all of it. `None`: any number."""
    shape = type_.shape[1:] if type_.counts_rows else type_.shape
    if -1 in shape:
        return None
    count = 1
    for length in shape:
        count *= length
    return count


def _compared(apply: Callable[[Any, Any], Any], left: _Value, right: _Value) -> _Value:
    return _Value(
        "truth",
        left.single and right.single,
        lambda columns: np.asarray(apply(left.compute(columns), right.compute(columns)), np.bool_),
    )


def _all_of(values: Sequence[_Value]) -> _Value:
    single = all(value.single for value in values)
    return _Value("truth", single, lambda columns: reduce(np.logical_and, [value.compute(columns) for value in values]))


def _any_of(values: Sequence[_Value]) -> _Value:
    single = all(value.single for value in values)
    return _Value("truth", single, lambda columns: reduce(np.logical_or, [value.compute(columns) for value in values]))


def _wide(values: Array) -> Array:
    """Numbers as doubles, so that no small integer wraps; truth values stay."""
    return values if values.dtype == np.bool_ else values.astype(np.float64)


def _always(values: Array) -> _Compute:
    return lambda _: values


def _wrong(node: ast.expr, message: str) -> ExpressionError:
    return ExpressionError(f"{message} (column {node.col_offset + 1})")
