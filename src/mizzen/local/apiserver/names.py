"""What names, labels and other small strings may be, in Kubernetes' words (apimachinery `util/validation`).

Each function returns what is wrong, an empty list when nothing is.
"""

import re

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character"
)
_DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character"
)
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"


def _example(text: str, pattern: str, *examples: str) -> str:
    given = "',  or '".join(examples)  # two blanks: Kubernetes has them
    return f"{text} (e.g. '{given}', regex used for validation is '{pattern}')"


def _too_long(length: int) -> str:
    return f"must be no more than {length} bytes"


def dns_label_errors(value: str) -> list[str]:
    errors = [_too_long(63)] if len(value) > 63 else []
    if not re.fullmatch(_LABEL, value):
        errors.append(_example(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return errors


def dns_subdomain_errors(value: str) -> list[str]:
    errors = [_too_long(253)] if len(value) > 253 else []
    if not re.fullmatch(_SUBDOMAIN, value):
        errors.append(_example(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return errors


def dns1035_label_errors(value: str) -> list[str]:
    errors = [_too_long(63)] if len(value) > 63 else []
    if not re.fullmatch(_DNS1035, value):
        errors.append(_example(_DNS1035_TEXT, _DNS1035, "my-name", "abc-123"))
    return errors


def path_segment_errors(value: str) -> list[str]:
    """What any name must be to be part of a URL's path."""
    if value in {".", ".."}:
        return [f"may not be '{value}'"]
    return [f"may not contain '{character}'" for character in "/%" if character in value]


def qualified_name_errors(value: str) -> list[str]:
    """A label key, annotation key, finalizer or condition type: `[prefix/]name`."""
    prefix, slash, name = value.rpartition("/")
    errors = []
    if slash and not prefix:
        errors.append("prefix part must be non-empty")
    elif slash and "/" in prefix:
        return [
            "a qualified name "
            + _example(_QUALIFIED_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    elif slash:
        errors += [f"prefix part {error}" for error in dns_subdomain_errors(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append(f"name part {_too_long(63)}")
    if not re.fullmatch(_QUALIFIED, name):
        errors.append("name part " + _example(_QUALIFIED_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return errors


label_key_errors = qualified_name_errors


def label_value_errors(value: str) -> list[str]:
    errors = [_too_long(63)] if len(value) > 63 else []
    if not re.fullmatch(_LABEL_VALUE, value):
        errors.append(_example(_LABEL_VALUE_TEXT, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return errors


def config_key_errors(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    errors = [_too_long(253)] if len(value) > 253 else []
    if not re.fullmatch(_CONFIG_KEY, value):
        errors.append(_example(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if value == ".":
        errors.append("must not be '.'")
    elif value == "..":
        errors.append("must not be '..'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def env_name_errors(value: str) -> list[str]:
    if not value or "=" in value or not value.isprintable() or not value.isascii():
        return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]
    return []
