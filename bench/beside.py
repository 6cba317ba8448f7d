"""What the portal does beside a gate, without its pages: imports or exports, one after the other.

``python -m bench.beside import|export URL`` works on the gate's store as nice as the portal is, until it is
terminated. Each import changes every code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.gate import ROOT
from bench.usage import make_codes, make_records
from proxy.cdr.usage_log import usage_log_lines
from proxy.policy import NumberPlan
from proxy.policy.code_file import read_code_file
from proxy.store import Store, carry_out, plan_import

__all__ = ["fill", "work_beside"]

CODES = 100_000
_RECORDS = 200_000
_BEHIND_CALLS = 10
"""As in `proxy.commands.portal`."""


def fill(url: str) -> None:
    """Make the store that is worked on."""
    with Store(url) as store:
        make_codes(store, CODES)
        make_records(store, _RECORDS, CODES)


@contextmanager
def work_beside(what: str, url: str) -> Iterator[None]:
    """Have that done by a process of its own; wait until it has begun."""
    command = [sys.executable, "-m", "bench.beside", what, url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield
            if process.poll() is not None:
                message = f"the {what} beside the calls has ended by itself"
                raise RuntimeError(message)
        finally:
            process.terminate()


def _import(store: Store, turn: int) -> None:
    lines = (f"C-{number},Client {number} {turn}\n" for number in range(200_000, 200_000 + CODES))
    content = read_code_file("Code,Description\n" + "".join(lines), NumberPlan())
    carry_out(plan_import(content, store.codes, may_update=True), store.codes)


def _export(store: Store, _turn: int) -> None:
    for _ in usage_log_lines(store.usage.facts()):
        pass


def main(what: str, url: str) -> None:
    """Work until the process is ended."""
    os.nice(_BEHIND_CALLS)
    work = {"import": _import, "export": _export}[what]
    with Store(url) as store:
        print("begun", flush=True)
        turn = 0
        while True:
            turn += 1
            work(store, turn)


if __name__ == "__main__":
    main(*sys.argv[1:])
