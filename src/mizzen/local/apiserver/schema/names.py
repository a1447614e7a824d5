"""Which names, labels and keys Kubernetes accepts; each check answers the reasons against, in its words."""

import re
from collections.abc import Callable

_LABEL_1123 = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL_1123}(\.{_LABEL_1123})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_NAME_PART})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_LABEL_1123_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_PART_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character"
)
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"

NameCheck = Callable[[str], list[str]]


def _pattern(text: str, expression: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{expression}')"


def _matches(expression: str) -> Callable[[str], bool]:
    match = re.compile(expression, re.ASCII).fullmatch
    return lambda value: match(value) is not None


_is_label_1123, _is_subdomain, _is_label_1035 = _matches(_LABEL_1123), _matches(_SUBDOMAIN), _matches(_LABEL_1035)
_is_name_part, _is_label_value, _is_config_key = _matches(_NAME_PART), _matches(_LABEL_VALUE), _matches(_CONFIG_KEY)


def dns_label(value: str) -> list[str]:
    """RFC 1123 label: names of namespaces, containers, volumes."""
    errors = ["must be no more than 63 bytes"] if len(value) > 63 else []
    if not _is_label_1123(value):
        if _is_subdomain(value):
            return [*errors, "must not contain dots"]
        errors.append(_pattern(_LABEL_1123_TEXT, _LABEL_1123, "my-name", "123-abc"))
    return errors


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: most names."""
    errors = ["must be no more than 253 bytes"] if len(value) > 253 else []
    return errors if _is_subdomain(value) else [*errors, _pattern(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com")]


def dns_1035_label(value: str) -> list[str]:
    """DNS label that begins with a letter: names of Services and of kinds and versions."""
    errors = ["must be no more than 63 bytes"] if len(value) > 63 else []
    if _is_label_1035(value):
        return errors
    return [*errors, _pattern(_LABEL_1035_TEXT, _LABEL_1035, "my-name", "abc-123")]


def path_segment(value: str) -> list[str]:
    """What can stand in a URL path: names of RBAC objects."""
    if value in {".", ".."}:
        return [f"may not be '{value}'"]
    return [f"may not contain '{mark}'" for mark in ("/", "%") if mark in value]


def qualified_name(value: str) -> list[str]:
    """A label's key: a name, or `domain/name`."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        text = _pattern(f"a valid label key {_PART_TEXT}", _NAME_PART, "MyName", "my.name", "123-abc")
        return [f"{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    errors = []
    if slash:
        errors += (
            ["prefix part must be non-empty"] if not prefix else [f"prefix part {e}" for e in dns_subdomain(prefix)]
        )
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append("name part must be no more than 63 bytes")
    if not _is_name_part(name):
        errors.append(_pattern(f"name part {_PART_TEXT}", _NAME_PART, "MyName", "my.name", "123-abc"))
    return errors


def label_value(value: str) -> list[str]:
    errors = ["must be no more than 63 bytes"] if len(value) > 63 else []
    if _is_label_value(value):
        return errors
    return [*errors, _pattern(_LABEL_VALUE_TEXT, _LABEL_VALUE, "MyValue", "my_value", "12345")]


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or a Secret."""
    errors = ["must be no more than 253 characters"] if len(value) > 253 else []
    if not _is_config_key(value):
        errors.append(_pattern(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if value in {".", ".."}:
        errors.append(f"must not be '{value}'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors
