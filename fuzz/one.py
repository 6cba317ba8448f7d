"""Runs one Python target under libFuzzer, in a process of its own: `python -m fuzz.one TARGET [OPTION...]`.

Ends only by libFuzzer's doing: after its time, or with an input that broke something.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["proxy"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Run the target that is named first."""
    name, *options = sys.argv[1:]
    atheris.Setup([f"fuzz-{name}", *options], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
