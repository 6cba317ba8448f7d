"""What Tollgate is made of, checked without asking anybody: `python -m tests.support.pins` (docs/decisions).

Every package and crate has one version, what others publish under it can't change unnoticed where the lock
file's format knows checksums, nothing comes from elsewhere, and what is shipped may be shipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = [
    "CRATES",
    "installed_packages",
    "licence_of",
    "main",
    "problems_of_crates",
    "problems_of_packages",
    "problems_of_scripts",
]

ROOT = Path(__file__).parents[2]
CRATES = "registry+https://github.com/rust-lang/crates.io-index"
PERMISSIVE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Zlib",
    }
    | {"Unicode-3.0", "Apache-2.0 WITH LLVM-exception", "Unlicense"}
)
"""Licences (SPDX) under which a part may be shipped with the rest, whatever that is under."""
_SPOKEN = {
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Classifiers of packages that name no licence expression yet (PEP 639)."""


def problems_of_packages(
    requirements: str, *, installed: Mapping[str, metadata.Distribution]
) -> Iterator[str]:
    """Tell what is wrong with the Python packages."""
    pins: dict[str, str] = {}
    for line in requirements.splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.!+]*)", line)
            if match is None:
                yield f"requirements.txt: {line!r} is no exact version"
            else:
                pins[canonicalize_name(match[1])] = match[2]
    for name in sorted(_closure("tollgate", frozenset({"dev"}), installed) - {"tollgate"}):
        if name not in pins:
            yield f"requirements.txt: {name} is needed and has no version"
        elif name in installed and installed[name].version != pins[name]:
            yield f"{name} {installed[name].version} is installed, not {pins[name]}: run script/bootstrap"
    for name in sorted(_closure("tollgate", frozenset(), installed) - {"tollgate"}):
        licence = licence_of(installed[name].metadata) if name in installed else ""
        if name in installed and not _may_be_shipped(licence):
            yield f"{name} is shipped, and its licence is {licence or 'not told'}"


def problems_of_crates(lock: str, graph: Mapping[str, list[dict[str, object]]]) -> Iterator[str]:
    """Tell what is wrong with the Rust crates: their lock file, and what cargo tells of them."""
    for crate in tomllib.loads(lock)["package"]:
        source = crate.get("source")
        if source is not None and (
            source != CRATES or not re.fullmatch("[0-9a-f]{64}", crate.get("checksum", ""))
        ):
            yield f"Cargo.lock: {crate['name']} is not of crates.io, or has no checksum"
    for package in graph["packages"]:
        licence = str(package["license"] or "")
        if package["source"] is not None and not _may_be_shipped(licence.replace("/", " OR ")):
            yield f"crate {package['name']} is linked, and its licence is {licence or 'not told'}"


def problems_of_scripts(lock: str) -> Iterator[str]:
    """Tell what is wrong with what browsers are given."""
    for name, package in json.loads(lock)["packages"].items():
        if name and not str(package.get("integrity", "")).startswith("sha512-"):
            yield f"package-lock.json: {name} has no checksum"
        if name and not _may_be_shipped(str(package.get("license", ""))):
            yield f"{name} is shipped, and its licence is {package.get('license', 'not told')}"


def licence_of(told: metadata.PackageMetadata) -> str:
    """Return the licence of a package as an SPDX expression; "" when it tells none."""
    told_of = told.json
    if expression := told_of.get("license_expression"):
        return str(expression)
    classifiers = [str(one).rpartition(" :: ")[2] for one in told_of.get("classifier", ())]
    found = sorted({_SPOKEN[one] for one in classifiers if one in _SPOKEN})
    return " OR ".join(found) or str(told_of.get("license", ""))


def _may_be_shipped(expression: str) -> bool:
    """Whether an expression leaves a permissive choice: one of each OR, all of each AND."""
    inside = expression.replace("(", " ").replace(")", " ")
    return all(
        any(choice.strip() in PERMISSIVE for choice in part.split(" OR ")) for part in inside.split(" AND ")
    )


def _closure(root: str, extras: frozenset[str], installed: Mapping[str, metadata.Distribution]) -> set[str]:
    """Return the names of all that a package needs here, its own included."""
    found: set[str] = set()
    waiting: list[tuple[str, frozenset[str]]] = [(root, extras)]
    while waiting:
        name, wanted = waiting.pop()
        if name in found and not wanted:
            continue
        found.add(name)
        for text in (installed[name].requires or ()) if name in installed else ():
            needed = Requirement(text)
            needs = [
                needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in {"", *wanted}
            ]
            other = canonicalize_name(needed.name)
            if any(needs) and (other not in found or needed.extras):
                waiting.append((other, frozenset(needed.extras)))
    return found


def installed_packages() -> Mapping[str, metadata.Distribution]:
    """Return what is installed here, by name."""
    return {str(canonicalize_name(one.metadata["Name"])): one for one in metadata.distributions()}


def main() -> int:
    """Print what is wrong; return how many things are."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--manifest-path=native/Cargo.toml"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assets = ROOT / "proxy/portal/assets/package-lock.json"
    found = [
        *problems_of_packages((ROOT / "requirements.txt").read_text("utf-8"), installed=installed_packages()),
        *problems_of_crates((ROOT / "native/Cargo.lock").read_text("utf-8"), json.loads(told.stdout)),
        *problems_of_scripts(assets.read_text("utf-8")),
    ]
    for problem in found:
        print(problem, file=sys.stderr)
    return len(found)


if __name__ == "__main__":
    raise SystemExit(1 if main() else 0)
