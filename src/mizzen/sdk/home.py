"""Where this user's own things are on this machine: `MIZZEN_HOME`, else `.mizzen` here."""

import os
from pathlib import Path


def home_folder() -> Path:
    """The folder; it may not exist."""
    return Path(os.environ.get("MIZZEN_HOME") or ".mizzen").absolute()
