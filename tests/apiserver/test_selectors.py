"""Label and field selectors: what they match, and what Kubernetes says of those it cannot read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.selectors import FieldTerm, parse_fields, parse_labels

LABELS = {"app": "web", "tier": "front", "version": "3", "empty": "", "example.com/x": "y"}


def matches(selector: str) -> bool:
    return all(requirement.matches(LABELS) for requirement in parse_labels(selector))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier = front", True),
        ("app=other", False),
        ("app!=web", False),
        ("nothere!=web", True),
        ("app", True),
        ("nothere", False),
        ("!app", False),
        ("!nothere", True),
        ("app in (web,api)", True),
        ("app in (api)", False),
        ("nothere in (api)", False),
        ("app notin (api)", True),
        ("nothere notin (api)", True),
        ("app notin (web)", False),
        ("empty=", True),
        ("empty in (,x)", True),
        ("empty in ()", True),
        ("app in ()", False),
        ("version>2", True),
        ("version>3", False),
        ("version<4", True),
        ("nothere>1", False),
        ("app>1", False),
        ("example.com/x=y", True),
        ("in=x", False),
        ("in in (in)", False),
        ("app,tier,!nothere,version in (3)", True),
    ],
)
def test_label_selectors(selector: str, expected: bool) -> None:
    assert matches(selector) is expected


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("=", "found '=', expected: !, identifier, or 'end of string'"),
        ("(a)", "found '(', expected: !, identifier, or 'end of string'"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("a,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("-a", "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of"),
        ("a=b/c", "unable to parse requirement: values[0][a]: Invalid value: \"b/c\": a valid label must be"),
        ("a>x", "for 'Gt', 'Lt' operators, the value must be an integer"),
    ],
)  # fmt: skip
def test_label_selectors_that_cannot_be_read(selector: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_labels(selector)
    assert message in caught.value.message


@given(st.text(alphabet="ab1=!(), <>/.-_in", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes anything but a selector or a bad request, and a selector means the same with more blanks."""
    try:
        requirements = parse_labels(text)
    except BadRequest:
        return
    assert parse_labels(f"  {text}  ") == requirements


def accept(_field: str) -> str:
    return ""


@pytest.mark.parametrize(
    ("selector", "terms"),
    [
        ("", ()),
        ("a=b", (FieldTerm("a", True, "b"),)),
        ("a==b", (FieldTerm("a", True, "b"),)),
        ("a!=b,c=", (FieldTerm("a", False, "b"), FieldTerm("c", True, ""))),
        (r"a=x\,y\=z\\", (FieldTerm("a", True, "x,y=z\\"),)),
        ("a.b=c,", (FieldTerm("a.b", True, "c"),)),
    ],
)
def test_field_selectors(selector: str, terms: tuple[FieldTerm, ...]) -> None:
    assert parse_fields(selector, accept) == terms


@pytest.mark.parametrize("selector", ["a", "a=b=c", "a=b\\", "a,b=c"])
def test_field_selectors_that_cannot_be_read(selector: str) -> None:
    with pytest.raises(BadRequest, match="selector"):
        parse_fields(selector, accept)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_any_value_can_be_said(values: list[str]) -> None:
    """A value with its commas, equals signs and backslashes escaped is that value."""
    escaped = ["".join(f"\\{c}" if c in ",=\\" else c for c in value) for value in values]
    assert parse_fields(",".join(f"a={value}" for value in escaped), accept) == tuple(
        FieldTerm("a", True, value) for value in values
    )


def test_a_field_that_is_not_offered() -> None:
    with pytest.raises(BadRequest, match="not here: x"):
        parse_fields("a=b,x=y", lambda field: "not here: x" if field == "x" else "")
