"""What a version was made with: the interpreter, and the distributions that were really imported."""

import platform
import sys
from importlib import metadata


def python_version() -> str:
    """`3.11.7`."""
    return platform.python_version()


def imported_packages() -> dict[str, str]:
    """The versions of the distributions of which a module is imported now, by name."""
    tops = {name.partition(".")[0] for name in sys.modules}
    distributions = metadata.packages_distributions()
    names = {distribution for top in tops for distribution in distributions.get(top, ())}
    return {name: metadata.version(name) for name in sorted(names, key=str.casefold)}
