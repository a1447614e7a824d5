"""What can be wrong with what a user wrote.

ManifestErrors      everything wrong with one or more files, at once: the user's to correct
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ManifestError:
    """One thing that is wrong: where, what was expected, what was found, and what may have been meant."""

    path: str
    """The field, such as `spec.scaling.replicas`; `document 2` where the document as a whole is meant."""
    expected: str
    found: str
    source: str
    """The file's name, or what stands for it."""
    line: int
    hint: str = ""
    """A question or an instruction: `did you mean replicas?`; empty where nothing helpful is known."""

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.path}: expected {self.expected}, got {self.found}{hint} ({self.source}:{self.line})"


class ManifestErrors(ValueError):
    """Everything that is wrong, in the order of files and lines; the message has a line for each."""

    def __init__(self, errors: Iterable[ManifestError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))
