"""YAML as Kubernetes reads it, and the line of everything in it."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mizzen.kinds.yamltext import Repeated, YamlError, documents, dump, scalar


def value_of(text: str | bytes) -> Any:
    return next(documents(text)).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("-5", -5), ("+5", 5), ("012", 10), ("0o17", 15), ("0x1F", 31), ("0b11", 3), ("1_000", 1000),
        ("08", 8), ("1.5", 1.5), ("2.0", 2), ("1e3", 1000), (".5", 0.5), ("1.", 1), ("12e03", 12000), ("1:30", "1:30"),
        ("yes", True), ("n", False), ("on", True), ("No", False), ("~", None), ("", None), ("Null", None),
        ("2001-01-01", "2001-01-01"), ("x", "x"), ("1x", "1x"), ("0o8", "0o8"), ("-", "-"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_plain_scalars_are_what_go_takes_them_for(text: str, value: Any) -> None:
    got = scalar(text)
    assert (got, type(got)) == (value, type(value))


def test_quotes_and_tags_say_what_something_is() -> None:
    assert value_of("a: '5'\nb: !!str 5\nc: !!int '5'\nd: |\n  x\ne: !!binary aGk=\nf: !thing x") == {
        "a": "5", "b": "5", "c": 5, "d": "x\n", "e": "hi", "f": "x",
    }  # fmt: skip


def test_every_key_is_a_text() -> None:
    assert value_of("5: a\n1.5: b\ntrue: c\n~: d") == {"5": "a", "1.5": "b", "true": "c", "null": "d"}


def test_anchors_and_merges_are_followed() -> None:
    got = value_of("a: &a {x: 1, z: 1}\nb: {<<: *a, z: 2}\nc: [*a]\nd: {<<: [{p: 1}, {p: 2, q: 3}]}")
    assert got == {
        "a": {"x": 1, "z": 1}, "b": {"x": 1, "z": 2}, "c": [{"x": 1, "z": 1}], "d": {"p": 1, "q": 3},
    }  # fmt: skip
    got["c"][0]["x"] = 9
    assert got["a"]["x"] == 1


def test_lines_are_those_of_keys_and_items() -> None:
    document = next(documents("a:\n  b: 1\n  c:\n    - x\n    - q: 1\n      z: [1,\n          2]\n"))
    assert document.lines == {
        (): 1, ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5, ("a", "c", 1, "q"): 5,
        ("a", "c", 1, "z"): 6, ("a", "c", 1, "z", 0): 6, ("a", "c", 1, "z", 1): 7,
    }  # fmt: skip
    assert document.line_of(("a", "c", 1, "nothing", "here")) == 5


def test_repeated_keys_are_noted_and_the_last_counts() -> None:
    document = next(documents("a: 1\nb:\n  - {x: 1, x: 2}\na: 3\n"))
    assert document.value == {"a": 3, "b": [{"x": 2}]}
    assert document.repeated == [Repeated(("b", 0, "x"), 3, 3), Repeated(("a",), 4, 1)]


def test_documents_before_a_mistake_are_given() -> None:
    read = documents("a: 1\n---\n---\nb: [")
    assert [next(read).value, next(read).value] == [{"a": 1}, None]
    with pytest.raises(YamlError, match="line 4"):
        next(read)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a:\n\t- b", 2, "found a tab, where YAML takes only spaces"),
        ("\ta: 1", 1, "found a tab"),
        ("a: b: c", 1, "mapping values are not allowed"),
        ("a: [", 1, ""),
        ("a:\n  'x", 2, "end of stream"),
        ("a: *x", 1, "expected an anchor &x before *x"),
        ("a: &a [*a]", 1, "expected an anchor"),
        ("x: 1\n? [a]\n: b", 2, "expected a key that is a text"),
        ("a: 1\nb: \x01", 2, "expected text in UTF-8"),
        (b"a: \xff\xfe", 1, "expected text in UTF-8"),
        ("a: 1\x00", 1, "expected text in UTF-8"),
        ("a: .inf", 1, "expected a number that JSON can say"),
        ("a: 1e999", 1, "expected a number that JSON can say"),
        ("a: !!binary '?'", 1, ""),
        ("a: {<<: 5}", 1, "to merge"),
        ("[" * 100_000, 1, "expected at most 200 levels"),
        ("{a: " * 5_000, 1, "expected at most 200 levels"),
        ("\n".join(" " * depth + "a:" for depth in range(1000)), 201, "expected at most 200 levels"),
        (BOMB, 6, "expected a document that aliases do not blow up"),
        ("%YAML 3.0\n---\na: 1", 1, "incompatible YAML document"),
        ("--- a\n...\nb", 3, ""),
    ],
    ids=str,
)
def test_what_is_not_yaml_is_told_with_its_line(text: str | bytes, line: int, problem: str) -> None:
    with pytest.raises(YamlError) as caught:
        list(documents(text))
    assert caught.value.line == line
    assert problem in caught.value.problem


NUMBERS = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False, width=16)
KEYS = st.text("abcxy<~5", min_size=1, max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(VALUES)
def test_what_was_written_is_what_is_read(value: Any) -> None:
    """By us and by PyYAML, whose dialect is another one."""
    assert value_of(dump(value)) == value
    assert yaml.safe_load(dump(value)) == value


@pytest.mark.parametrize(
    "text", ["y", "No", "on", "5", "0o17", "012", "1:30", "2001-01-01", "~", "", ".inf", "<<", "- a", "a: b"]
)
def test_texts_that_look_like_something_else_are_quoted(text: str) -> None:
    assert value_of(dump({text: [text]})) == yaml.safe_load(dump({text: [text]})) == {text: [text]}


@given(st.text(max_size=40) | st.text("-:[]{}&*!|>'\"#%@` \n\tab,?", max_size=40))
def test_any_text_ends_in_documents_or_in_one_error(text: str) -> None:
    line = 1
    try:
        list(documents(text))
    except YamlError as error:
        line = error.line
    assert 1 <= line <= text.count("\n") + 1
