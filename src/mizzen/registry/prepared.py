"""A model as it will be stored: checked, in its format, with everything that belongs to it."""

from dataclasses import dataclass

from mizzen.kinds.build import ConversionCheck, ModelFormat, Signature
from mizzen.registry.onnx_file import Feed
from mizzen.registry.trying import Part


@dataclass(frozen=True, slots=True)
class Prepared:
    """One model."""

    model: bytes
    """ONNX, or the document that names the parts."""
    signature: Signature
    example: Feed | None
    """Rows that it answers; `None` where none are known."""
    check: ConversionCheck | None
    """Against the model it was made from; `None` where it came as it is."""
    source_type: str
    format: ModelFormat = "onnx"
    parts: tuple[Part, ...] = ()
    code: str | None = None
    """Of a Python model: digest of the code bundle."""
    entrypoint: str | None = None
    beside: tuple[tuple[str, bytes], ...] = ()
    """Files under the model's digest, each with its ending: what it can be explained by (`background.py`)."""
    untrusted: tuple[str, ...] = ()
    """Types that the owner must approve before it is loaded."""
