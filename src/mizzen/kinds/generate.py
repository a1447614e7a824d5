"""Writes what is generated from the kinds: `python -m mizzen.kinds.generate [FOLDER]`.

`deploy/crds/PLURAL.yaml` for clusters, `docs/schemas/KIND.json` for editors, and the CRDs once more in the package, for
programs that install them (`definitions.py`). The same kinds give the same bytes; a
test fails where a file on disk is not what this would write.
"""

import json
import sys
from pathlib import Path

from mizzen.kinds.catalog import KINDS
from mizzen.kinds.crd import crd_of, crds
from mizzen.kinds.definitions import FILE
from mizzen.kinds.meta import GROUP
from mizzen.kinds.schema import editor
from mizzen.kinds.yamltext import dump

_HEADER = "# Generated from src/mizzen/kinds by `python -m mizzen.kinds.generate`; changes here are overwritten.\n"


def files() -> dict[Path, str]:
    """What is to be written, by path."""
    written = {Path("src/mizzen/kinds") / FILE: json.dumps(crds(), ensure_ascii=False, indent=1) + "\n"}
    for kind in KINDS:
        crd = dump(crd_of(kind))
        written[Path("deploy/crds") / f"{kind.plural}.{GROUP}.yaml"] = _HEADER + crd
        schema = json.dumps(editor(kind), indent=2, ensure_ascii=False)
        written[Path("docs/schemas") / f"{kind.__name__.lower()}.json"] = f"{schema}\n"
    return written


def main(root: Path) -> None:
    """Writes every file under `root` and removes those of kinds that are gone."""
    wanted = files()
    for folder, pattern in ((root / "deploy/crds", "*.yaml"), (root / "docs/schemas", "*.json")):
        for path in folder.glob(pattern):
            if path.relative_to(root) not in wanted:
                path.unlink()
    for path, text in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    print(f"wrote {len(wanted)} files")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
