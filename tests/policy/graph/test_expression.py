"""Conditions: against Python's own evaluation of the same text, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.policy.graph.expression import ExpressionError, compiled, names_in
from mizzen.policy.graph.ports import Type

INPUTS = {
    "x": Type("FP32", (-1, 1)),
    "n": Type("INT64", (-1,)),
    "flag": Type("BOOL", (-1, 1)),
    "country": Type("BYTES", (-1, 1)),
    "v": Type("FP64", (-1, 3)),
    "any-name": Type("FP64", (-1,)),
}
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)

numbers = st.recursive(
    st.sampled_from(["x", "n", "v[0]", "v[2]", "max(v)", "min(v)", "sum(v)", "1", "2.5", "-3"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda text: f"abs({text})"),
        inner.map(lambda text: f"(-{text})"),
    ),
    max_leaves=4,
)
comparisons = st.tuples(numbers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers).map(" ".join)
texts = st.sampled_from(['country == "NL"', 'country != "NL"', 'country in ["NL", "BE"]', 'country not in ("DE",)'])
chains = st.tuples(numbers, numbers, numbers).map(lambda t: f"{t[0]} < {t[1]} <= {t[2]}")
conditions = st.recursive(
    st.one_of(comparisons, texts, chains, st.just("flag"), st.just("n in [1, 2]"), st.just("any(flag)")),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=5,
)
rows = st.tuples(
    st.integers(-4, 4).map(float), st.integers(-3, 3), st.booleans(), st.sampled_from(["NL", "BE", "DE", ""]),
    st.lists(st.integers(-4, 4).map(float), min_size=3, max_size=3),
)  # fmt: skip


@UNHURRIED
@given(conditions, st.lists(rows, min_size=1, max_size=5))
def test_it_holds_where_python_says_so(text, given_rows):
    columns = {
        "x": np.array([[row[0]] for row in given_rows], np.float32),
        "n": np.array([[row[1]] for row in given_rows]),
        "flag": np.array([[row[2]] for row in given_rows]),
        "country": np.array([[row[3]] for row in given_rows], dtype=object),
        "v": np.array([row[4] for row in given_rows]),
    }
    found = compiled(text, INPUTS).holds(columns, len(given_rows))
    expected = [
        bool(eval(text, {"any": lambda one: one}, dict(zip(("x", "n", "flag", "country", "v"), row, strict=True))))
        for row in given_rows
    ]
    assert expected == found.tolist()


def test_each_row_is_judged_by_itself():
    condition = compiled('mean(v) > 1 and inputs["any-name"] < 5', INPUTS)
    assert condition.inputs == {"v", "any-name"}
    columns = {"v": np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), "any-name": np.array([[1.0], [1.0]])}
    assert condition.holds(columns, 2).tolist() == [True, False]


def test_with_a_missing_number_only_unequal_holds():
    columns = {"x": np.array([[math.nan]], np.float32)}
    held = {
        text: compiled(text, INPUTS).holds(columns, 1)[0]
        for text in ("x < 1", "x >= 1", "x == x", "x != 1", "isnan(x)")
    }
    assert held == {"x < 1": False, "x >= 1": False, "x == x": False, "x != 1": True, "isnan(x)": True}


def test_integers_do_not_wrap_and_division_by_nothing_is_no_error():
    small = {"u": Type("UINT8", (-1,))}
    columns = {"u": np.array([[200], [0]], np.uint8)}
    assert compiled("u + u > 300", small).holds(columns, 2).tolist() == [True, False]
    assert compiled("1 / u > 100", small).holds(columns, 2).tolist() == [False, True]
    assert compiled("-u < 0", small).holds(columns, 2).tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scor > 3", "expected an input (x, n, flag, country, v, any-name), found 'scor' (column 1)"),
        ("x > 1 and scor", "expected an input (x, n, flag, country, v, any-name), found 'scor' (column 11)"),
        ("x", "expected something that holds or does not, found a number: compare it"),
        ("v > 1", "expected one truth value for each row, found several: take any(…), all(…) or a column"),
        ("v[3] > 1", "expected a column below 3, found 3 (column 1)"),
        ("v[-1] > 1", "expected a column by its number"),
        ('x == "a"', "expected a number to compare with a number, found a text (column 6)"),
        ("country + 1 > 0", "expected a number, found a text (column 1)"),
        ("x in country", 'expected constants in brackets, such as ["NL", "BE"] (column 6)'),
        ('x in ["a"]', "expected constants, each a number (column 6)"),
        ("x is 3", "expected == != < <= > >= or in (column 6)"),
        ("min(x, 3) > 1", "expected min(…) with one argument (column 1)"),
        ("x >", "expected an expression: invalid syntax"),
        ("", "expected an expression: invalid syntax"),
        ("x > 1; y", "expected an expression: invalid syntax"),
        ("x > 1" + " " * 3000, "expected at most 2000 characters, found 3005"),
        ("(" * 900 + "x" + ")" * 900, "expected an expression"),
        ("x > None", "expected a number, text, True or False (column 5)"),
        ("x > 10 ** 3", "expected inputs, numbers, text, comparisons"),
        ("x > 99999999999999999999", "expected a number of at most 64 bits"),
        ("x > 1j", "expected a number, text, True or False"),
        ("(lambda: 1)() > 0", "expected one of min, max, sum, mean, any, all, abs, isnan (column 1)"),
        ("x.real > 0", "expected inputs, numbers, text, comparisons"),
        ("__import__('os').system('true') == 0", "expected one of min, max, sum, mean, any, all, abs, isnan (column 1)"),
        ("[y for y in v] == 1", "expected inputs, numbers, text, comparisons"),
        ("x if flag else n", "expected inputs, numbers, text, comparisons"),
        ("(y := 3) > 1", "expected inputs, numbers, text, comparisons"),
        ("f'{x}' == 'a'", "expected inputs, numbers, text, comparisons"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_place(text, reason):
    with pytest.raises(ExpressionError) as raised:
        compiled(text, INPUTS)
    assert str(raised.value).startswith(reason)


@UNHURRIED
@given(st.text(max_size=60))
def test_no_text_does_anything_but_compile_or_be_refused(text):
    try:
        compiled(text, INPUTS)
    except ExpressionError:
        return
    assert names_in(text) <= INPUTS.keys()
