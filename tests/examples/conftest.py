"""The examples' modules are imported as their own programs import them: from their folders."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES / "flights"), str(EXAMPLES / "fraud")]
