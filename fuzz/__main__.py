"""The command of the fuzzers: runs each target under libFuzzer for a while, and keeps what breaks one.

Python targets run under atheris, those of the media core in binaries that script/fuzz has built. Inputs that
reached something new stay in var/fuzz: the next run goes on from there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from fuzz.targets import REGRESSIONS, TARGETS, seeds

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ("rtp", "rtcp", "srtp", "telephone_event")
SECONDS = 60
LONGEST = 65_536
MEMORY_MB = 1_024
INPUT_SECONDS = 5


def main() -> None:
    """Run the targets that are named, or all; the status is 1 when one of them broke."""
    parser = argparse.ArgumentParser(
        prog="script/fuzz",
        description=(
            "Fuzz what reads a stranger's octets. What breaks a target is kept in fuzz/regressions, where "
            "script/test finds it."
        ),
        epilog="example: script/fuzz sdp rtp --seconds 600",
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join((*TARGETS, *NATIVE))}")
    parser.add_argument("--seconds", type=int, default=SECONDS, metavar="N", help="per target (%(default)s)")
    options = parser.parse_args()
    if unknown := set(options.targets) - {*TARGETS, *NATIVE}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    broken = [
        name for name in options.targets or (*TARGETS, *NATIVE) if not fuzz(name, seconds=options.seconds)
    ]
    if broken:
        sys.exit(f"broken: {', '.join(broken)}; see above, and the new files in {REGRESSIONS}")


def fuzz(name: str, *, seconds: int) -> bool:
    """Run one target; says whether it held."""
    found = ROOT / "var" / "fuzz" / name
    kept = REGRESSIONS / name
    for folder in (found, kept):
        folder.mkdir(parents=True, exist_ok=True)
    if name in TARGETS:
        for number, seed in enumerate(seeds(name)):
            (found / f"seed-{number}").write_bytes(seed)
        command = [sys.executable, "-m", "fuzz.one", name]
    else:
        # Below the name of what they were built for.
        (binary,) = (ROOT / "fuzz" / "native" / "target").glob(f"*/release/{name}")
        command = [str(binary)]
    print(f"==> {name}", flush=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={kept}/",
        "-print_final_stats=1",
    ]
    return subprocess.run([*command, *options, str(found), str(kept)], cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    main()
