"""A model that is more than one ONNX file: the document that says what belongs to it, by digest.

`models/sha256/<hex>.model.json` names the format, what the model takes and gives, the files of its weights
(`models/files/sha256/<hex>`), and of a Python model the code bundle, the class in it and the packages it needs. Since
each part is named by its digest, the digest of the document is that of the whole, and is the version's.

Unpacked, a model is a folder:

    model.json          the document
    example.json        a request that it answers, where one is known
    files/              the files under their names
    code/               the code bundle

Whoever registers a model makes such a folder and tries it; whoever serves it makes the same folder from the store. This
module is read by workers before anything else: it knows no library but msgspec.
"""

from typing import Any, Literal

import msgspec

Format = Literal["python", "skops", "lightgbm", "xgboost", "torch"]
FORMATS: dict[str, Format] = {".txt": "lightgbm", ".ubj": "xgboost", ".json": "xgboost", ".pt2": "torch"}
"""Of a library's own model files, by ending."""
FOLDER, ENDING = "models", ".model.json"
FILES_FOLDER = "models/files"
DOCUMENT, EXAMPLE, FILES, CODE = "model.json", "example.json", "files", "code"
REQUIREMENTS = "requirements.txt"


class PackageError(ValueError):
    """The document is none of this version of Mizzen."""


class TensorEntry(msgspec.Struct, frozen=True):
    """A named input or output; -1 in the shape where any length goes."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class FileEntry(msgspec.Struct, frozen=True):
    """A file, under the name by which the model knows it."""

    path: str
    digest: str
    bytes: int


class Package(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One model."""

    format: Format
    inputs: tuple[TensorEntry, ...] = ()
    outputs: tuple[TensorEntry, ...] = ()
    """Both empty where a Python class says it itself."""
    files: tuple[FileEntry, ...] = ()
    code: str | None = None
    """Digest of the code bundle."""
    entrypoint: str | None = None
    """`module:Class` of the code bundle."""
    requirements: FileEntry | None = None
    """The packages of its environment, as pip's requirements; `None`: those of the host."""
    parameters: dict[str, Any] = {}
    """For the Python class's `load`."""
    classes: tuple[int | str, ...] | None = None
    """A classifier's labels, in the order of their probabilities."""
    probabilities: bool = True
    """Whether a classifier gives them, or labels alone."""
    columns: tuple[str, ...] | None = None
    """Of the data frame that an estimator takes; `None` where it takes a matrix."""
    iterations: int | None = None
    """Of a boosted model: how many are used; `None`: all."""

    def encode(self) -> bytes:
        """The document; the same model always gives the same bytes."""
        return msgspec.json.encode(self, order="sorted")


def decode(document: bytes) -> Package:
    """Raises `PackageError` where it is no such document."""
    try:
        return msgspec.json.decode(document, type=Package)
    except msgspec.DecodeError as error:
        raise PackageError(f"expected a model's document, found {error}") from error
