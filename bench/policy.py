"""What a large policy costs: reading and importing codes, and one change among many."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass

from proxy.policy import AccountCode, CodeTable, NumberPlan
from proxy.policy.code_file import read_code_file
from proxy.store import Store


@dataclass(frozen=True, slots=True)
class PolicyCost:
    """Seconds of one work on so many codes."""

    what: str
    codes: int
    seconds: float


def run(*, quick: bool) -> list[PolicyCost]:
    """Measure on this machine."""
    codes = 5_000 if quick else 100_000
    text = "Code,Description\n" + "".join(f"C-{n:06d},Client {n}\n" for n in range(codes))
    started = time.perf_counter()
    content = read_code_file(text, NumberPlan())
    costs = [PolicyCost("read a code file", codes, time.perf_counter() - started)]
    with (
        tempfile.TemporaryDirectory(prefix="tollgate-bench-") as folder,
        Store(f"sqlite:///{folder}/b.db") as store,
    ):
        started = time.perf_counter()
        store.codes.upsert_many(content.codes, may_update=False)
        costs.append(PolicyCost("import its codes", codes, time.perf_counter() - started))
    table = CodeTable.of(content.codes)
    changes = 100
    started = time.perf_counter()
    for number in range(changes):
        table = table.apply([AccountCode(f"9{number:06d}", description="x")])
    costs.append(PolicyCost("change one code among them", codes, (time.perf_counter() - started) / changes))
    return costs
