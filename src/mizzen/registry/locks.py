"""Lock files as pip's requirements: what the node installs from, whichever tool wrote it.

`requirements.txt` is taken as it is, with hashes or without. `pylock.toml` (PEP 751) becomes one line for each package,
pinned, with its marker and the hashes of all its files, so that pip takes those files and no others. `uv.lock` is
exported by uv itself, since only it knows what of it is for this project.
"""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from mizzen.registry.errors import ModelUnfit

_UV_EXPORT = (
    "export",
    "--frozen",
    "--no-dev",
    "--no-emit-project",
    "--no-header",
    "--no-annotate",
    "--format",
    "requirements.txt",
)


def requirements_of(path: Path) -> bytes:
    """The requirements in a lock file. Raises `ModelUnfit` where it is none, or names what cannot be had elsewhere."""
    try:
        if path.name == "uv.lock":
            return _exported(path)
        text = path.read_text()
    except OSError as error:
        raise ModelUnfit(f"{path}: expected a lock file: {error.strerror}") from error
    if path.name == "pylock.toml" or (path.name.startswith("pylock.") and path.suffix == ".toml"):
        return _of_pylock(text, path).encode()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if word.startswith((".", "/", "-e ", "--editable", "-r ", "--requirement ", "-c ", "--constraint ")):
            raise ModelUnfit(
                f"{path}:{number}: expected packages by name or URL, got {word[:80]!r}, which is not there on another "
                f"machine: put your own modules into the code bundle, and one file's lines into the other"
            )
    return text.encode()


def _of_pylock(text: str, path: Path) -> str:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelUnfit(f"{path}: expected TOML: {error}") from error
    if str(document.get("lock-version", "")).partition(".")[0] != "1":
        raise ModelUnfit(f"{path}: lock-version: expected 1.0 (PEP 751), got {document.get('lock-version')!r}")
    lines = [_line(package, f"{path}: packages[{index}]") for index, package in enumerate(document.get("packages", ()))]
    return "".join(f"{line}\n" for line in lines)


def _line(package: dict[str, Any], place: str) -> str:
    name, version = package.get("name"), package.get("version")
    files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
    digests = [file["hashes"]["sha256"] for file in files if "sha256" in file.get("hashes", {})]
    if not name or not version or not files or len(digests) != len(files):
        raise ModelUnfit(
            f"{place} ({name}): expected a version, and files with sha256 hashes; what comes from a folder, from "
            f"version control or from a single archive cannot be had on another machine"
        )
    marker = f" ; {package['marker']}" if package.get("marker") else ""
    hashes = "".join(f" --hash=sha256:{digest}" for digest in sorted(set(digests)))
    return f"{name}=={version}{marker}{hashes}"


def _exported(path: Path) -> bytes:
    if not path.exists() or not path.with_name("pyproject.toml").exists():
        raise ModelUnfit(f"{path}: expected uv's lock file beside its pyproject.toml")  # uv would look further up
    uv = shutil.which("uv")
    if uv is None:
        raise ModelUnfit(f"{path}: uv is needed to read its lock file: install it, or write one that all can read: "
                         "uv export -o pylock.toml")  # fmt: skip
    run = subprocess.run([uv, *_UV_EXPORT], cwd=path.parent, capture_output=True, check=False)
    if run.returncode != 0:
        said = " ".join(run.stderr.decode(errors="replace").split())
        raise ModelUnfit(f"{path}: uv cannot export it: {said[:400]}")
    return run.stdout
