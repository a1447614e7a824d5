"""Rules in CEL (`x-kubernetes-validations`): what a custom resource must fulfil beyond types, and across its fields."""

import pytest

from .client import Api, Json, Refused, eventually, refused
from .objects import crd, custom, fields, schema
from .surroundings import CRDS, Namespace

RULES = "x-kubernetes-validations"
SHORT = {"type": "string", "maxLength": 20}
INTEGER = {"type": "integer"}


@pytest.fixture
def widgets(define, ns: Namespace):
    """Makes a kind with that spec, and returns its resource and how to make an object."""

    def made(spec: Json, **more: object):
        group = define(schema(spec, **more))
        return ns(f"{group}/v1/widgets"), lambda name, values: custom(group, name, values)

    return made


def test_rules_in_cel(widgets) -> None:
    """A rule that is false refuses with its message, reason and path."""
    rules = [{"rule": "self.low <= self.high", "message": "low is above high", "fieldPath": ".low"}]
    things, widget = widgets(fields(low=INTEGER, high=INTEGER) | {RULES: rules})
    things.create(widget("one", {"low": 1, "high": 2}))
    with refused(422, "Invalid", "low is above high") as error:
        things.create(widget("two", {"low": 3, "high": 2}))
    assert error.causes == [("spec.low", "FieldValueInvalid")]


def test_transition_rules_in_cel(widgets) -> None:
    """A rule with oldSelf holds for changes: an immutable field."""
    rule = {"rule": "self == oldSelf", "message": "is immutable"}
    things, widget = widgets(fields(fixed={**SHORT, RULES: [rule]}))
    things.create(widget("one", {"fixed": "a"}))
    things.patch("one", {"metadata": {"labels": {"l": "1"}}})
    with refused(422, "Invalid", 'spec.fixed: Invalid value: "b": is immutable'):
        things.patch("one", {"spec": {"fixed": "b"}})
    things.patch("one", {"spec": {"fixed": None}})
    things.patch("one", {"spec": {"fixed": "b"}})


def test_a_transition_rule_that_is_asked_at_the_beginning_too(widgets) -> None:
    """optionalOldSelf: the rule is asked without an old value, and can tell."""
    rule = {"rule": "oldSelf.hasValue() || self == 1", "message": "begins with 1", "optionalOldSelf": True}
    things, widget = widgets(fields(number={**INTEGER, RULES: [rule]}))
    with refused(422, "Invalid", "begins with 1"):
        things.create(widget("one", {"number": 2}))
    things.create(widget("one", {"number": 1}))
    things.patch("one", {"spec": {"number": 2}})


def test_a_set_has_no_order(widgets) -> None:
    """Lists that are sets are equal whatever their order."""
    rule = {"rule": "self == oldSelf", "message": "is immutable"}
    things, widget = widgets(
        fields(names={"type": "array", "items": SHORT, "maxItems": 5, "x-kubernetes-list-type": "set", RULES: [rule]})
    )
    things.create(widget("one", {"names": ["a", "b"]}))
    things.patch("one", {"spec": {"names": ["b", "a"]}})
    with refused(422, "Invalid", "is immutable"):
        things.patch("one", {"spec": {"names": ["b", "c"]}})


def test_items_are_found_again_by_their_keys(widgets) -> None:
    """In a list that is a map by keys, oldSelf of an item is the one with the same key, wherever it stands."""
    rule = {"rule": "self.size >= oldSelf.size", "message": "must not shrink"}
    item = fields(name=SHORT, size=INTEGER) | {"required": ["name", "size"], RULES: [rule]}
    disks = {"type": "array", "items": item, "maxItems": 5, "x-kubernetes-list-type": "map"}
    things, widget = widgets(fields(disks=disks | {"x-kubernetes-list-map-keys": ["name"]}))
    things.create(widget("one", {"disks": [{"name": "a", "size": 1}, {"name": "b", "size": 9}]}))
    things.patch(
        "one", {"spec": {"disks": [{"name": "b", "size": 9}, {"name": "c", "size": 1}, {"name": "a", "size": 2}]}}
    )
    with refused(422, "Invalid", "must not shrink") as error:
        things.patch("one", {"spec": {"disks": [{"name": "b", "size": 8}]}})
    assert error.causes == [("spec.disks[0]", "FieldValueInvalid")]


def test_reasons(widgets) -> None:
    reasons = ["FieldValueRequired", "FieldValueForbidden", "FieldValueDuplicate", "FieldValueInvalid"]
    rules = [{"rule": f"self.n != {index}", "message": "no", "reason": reason} for index, reason in enumerate(reasons)]
    things, widget = widgets(fields(n=INTEGER) | {RULES: rules})
    for index, reason in enumerate(reasons):
        with refused(422, "Invalid") as error:
            things.create(widget("one", {"n": index}))
        assert error.causes == [("spec", reason)]


def test_messages(widgets) -> None:
    """A message made by an expression, the plain one, and none."""
    rules = [
        {"rule": "self.n != 1", "messageExpression": "'s is ' + self.s"},
        {"rule": "self.n != 2", "message": "not 2"},
        {"rule": "self.n != 3"},
    ]
    things, widget = widgets(fields(n=INTEGER, s=SHORT) | {RULES: rules})
    for n, said in ((1, "spec: Invalid value: s is x"), (2, "not 2"), (3, "failed rule: self.n != 3")):
        with refused(422, "Invalid", said):
            things.create(widget("one", {"n": n, "s": "x"}))


def test_rules_everywhere(widgets) -> None:
    """At the root, on scalars, on items and on values; the path and the value are said where there are such."""
    root = {RULES: [{"rule": "self.metadata.name != 'bad'", "message": "a bad name"}]}
    unlucky = {**INTEGER, RULES: [{"rule": "self != 13", "message": "unlucky"}]}
    longer = {**SHORT, RULES: [{"rule": "self.size() > 1", "message": "short"}]}
    spec = fields(
        numbers={"type": "array", "items": unlucky, "maxItems": 5},
        words={"type": "object", "additionalProperties": longer, "maxProperties": 5},
    )
    things, widget = widgets(spec, **root)
    with refused(422, "Invalid", "a bad name"):
        things.create(widget("bad", {}))
    with refused(422, "Invalid", "spec.numbers[1]: Invalid value: 13: unlucky"):
        things.create(widget("one", {"numbers": [1, 13]}))
    with refused(422, "Invalid", 'spec.words[k]: Invalid value: "v": short'):
        things.create(widget("one", {"words": {"k": "v"}}))


def test_names_that_are_no_names_in_cel(widgets) -> None:
    """`a-b` is `a__dash__b`, and so on."""
    names = {"a-b": "a__dash__b", "a.b": "a__dot__b", "a/b": "a__slash__b", "a__b": "a__underscores__b", "in": "__in__"}
    rules = [{"rule": f"!has(self.{said}) || self.{said} != 'x'", "message": f"{said}!"} for said in names.values()]
    things, widget = widgets(fields(**dict.fromkeys(names, SHORT)) | {RULES: rules})
    for name, said in names.items():
        with refused(422, "Invalid", f"{said}!"):
            things.create(widget("one", {name: "x"}))


def test_a_rule_that_cannot_be_answered(widgets) -> None:
    """What is not there is no false: it is said that the rule could not be evaluated."""
    spec = fields(
        numbers={"type": "array", "items": INTEGER, "maxItems": 5, RULES: [{"rule": "self[0] > 1"}]},
        pair=fields(x=INTEGER) | {RULES: [{"rule": "self.x == 1"}]},
    )
    things, widget = widgets(spec)
    with refused(422, "Invalid", 'Invalid value: "array": index out of bounds: 0 evaluating rule: self[0] > 1'):
        things.create(widget("one", {"numbers": []}))
    with refused(422, "Invalid", 'Invalid value: "object": no such key: x evaluating rule: self.x == 1'):
        things.create(widget("one", {"pair": {}}))


def test_types_come_first(widgets) -> None:
    """Rules are asked only of what is valid otherwise, and that is said."""
    rule = {"rule": "self.low > 0"}
    things, widget = widgets(fields(low=INTEGER) | {RULES: [rule]})
    with refused(422, "Invalid", "some validation rules were not checked because the object was invalid") as error:
        things.create(widget("one", {"low": "a"}))
    assert error.causes[0] == ("spec.low", "FieldValueTypeInvalid")


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("self.t > timestamp('2026-01-01T00:00:00Z')", {"t": "2026-06-01T00:00:00Z"}, {"t": "2025-06-01T00:00:00Z"}),
        ("self.d <= duration('1m')", {"d": "30s"}, {"d": "2m"}),
        ("self.f > 0.5", {"f": 1}, {"f": 0.25}),
        ("self.l.isSorted()", {"l": ["a", "b"]}, {"l": ["b", "a"]}),
        ("self.l.indexOf('x') == -1", {"l": ["a"]}, {"l": ["a", "x"]}),
        ("self.l.all(x, x.startsWith('a'))", {"l": ["a1", "a2"]}, {"l": ["a1", "b"]}),
        ("self.l.exists_one(x, x == 'a')", {"l": ["a", "b"]}, {"l": ["a", "a"]}),
        ("self.s.find('[0-9]+') == '42'", {"s": "is 42."}, {"s": "is not"}),
        ("self.s.findAll('[0-9]').size() == 2", {"s": "4 2"}, {"s": "4"}),
        ("self.s.matches('^[a-z]+$')", {"s": "abc"}, {"s": "Abc"}),
        ("self.s.lowerAscii() == 'a-b'", {"s": "A-B"}, {"s": "b-a"}),
        ("isURL(self.s)", {"s": "https://a.io/x"}, {"s": "no url"}),
        ("isIP(self.s)", {"s": "10.0.0.1"}, {"s": "10.0.0.256"}),
        ("isCIDR(self.s)", {"s": "10.0.0.0/8"}, {"s": "10.0.0.0"}),
        ("isQuantity(self.s)", {"s": "500m"}, {"s": "much"}),
        ("type(self.n) == int && self.n % 2 == 0", {"n": 4}, {"n": 3}),
        ("has(self.n) != has(self.s)", {"n": 4}, {"n": 4, "s": ""}),
        ("self.m.all(k, self.m[k] == k)", {"m": {"a": "a"}}, {"m": {"a": "b"}}),
        ("'a' in self.m", {"m": {"a": ""}}, {"m": {"b": ""}}),
        ("sets.contains(self.l, ['a'])", {"l": ["a", "b"]}, {"l": ["b"]}),
    ],
)
def test_what_rules_can_say(widgets, rule: str, good: Json, bad: Json) -> None:
    spec = fields(
        t={"type": "string", "format": "date-time"},
        d={"type": "string", "format": "duration"},
        f={"type": "number"},
        l={"type": "array", "items": SHORT, "maxItems": 10},
        m={"type": "object", "additionalProperties": SHORT, "maxProperties": 5},
        n=INTEGER,
        s=SHORT,
    )
    things, widget = widgets(spec | {RULES: [{"rule": rule, "message": "is not so"}]})
    things.create(widget("good", good))
    with refused(422, "Invalid", "is not so"):
        things.create(widget("bad", bad))


def test_a_new_rule_does_not_lock_what_is_there(api: Api, define, ns: Namespace) -> None:
    """Of a value that does not change no rule is reported, but for those of its transitions."""
    group = define(schema(fields(a=INTEGER, b=SHORT)))
    things = ns(f"{group}/v1/widgets")
    things.create(custom(group, "one", {"a": 1, "b": "x"}))
    body = api.resource(CRDS).get(f"widgets.{group}")
    stricter = {**INTEGER, RULES: [{"rule": "self > 1", "message": "too small"}]}
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema(fields(a=stricter, b=SHORT))
    api.resource(CRDS).replace(body)

    def is_in_force() -> bool:
        try:
            things.create(custom(group, "probe", {"a": 0}), dryRun="All")
        except Refused:
            return True
        return False

    eventually(is_in_force, "the new rule is in force")
    things.patch("one", {"spec": {"b": "y"}})
    with refused(422, "Invalid", "too small"):
        things.patch("one", {"spec": {"a": 0}})


@pytest.mark.parametrize(
    ("rule", "field", "text"),
    [
        ({"rule": "self.nope >"}, "rule", "compilation failed"),
        ({"rule": ""}, "rule", "rule is not specified"),
        ({"rule": "true", "messageExpression": "'a' +"}, "messageExpression", "failed"),
    ],
)
def test_rules_in_cel_are_compiled(api: Api, unique, rule: Json, field: str, text: str) -> None:
    """A rule that does not compile is refused with the definition."""
    spec = fields(a=INTEGER) | {RULES: [rule]}
    with refused(422, "Invalid", text) as error:
        api.resource(CRDS).create(crd(f"{unique()}.example.com", schema(spec)))
    assert error.causes[0][0].endswith(f"{RULES}[0].{field}")
