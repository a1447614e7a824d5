"""The library `common-expression-language` without its command line.

The package imports it, and with it a terminal library: 70 ms and 15 MiB in a process that only evaluates rules.
"""

import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402 - after what it would import

__all__ = ["cel"]
