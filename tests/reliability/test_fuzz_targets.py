"""The fuzz targets without their fuzzer (script/fuzz): seeds, inputs that were kept, mutations of both."""

from __future__ import annotations

from random import Random

import pytest

from fuzz.mutation import mutated
from fuzz.targets import REGRESSIONS, TARGETS, seeds

MUTATIONS = 1_000


@pytest.mark.parametrize("name", TARGETS)
def test_no_octets_of_a_stranger_break_a_promise(name: str) -> None:
    run, random = TARGETS[name].run, Random(name)
    known = seeds(name)
    for seed in known:
        run(seed)
    for _ in range(MUTATIONS):
        changed = mutated(random.choice(known), random)
        try:
            run(changed)
        except BaseException:
            # Keep it: a file of this content belongs to the target's folder in fuzz/regressions.
            print(f"{name}: {changed!r}")
            raise


def test_every_folder_of_kept_inputs_belongs_to_a_target() -> None:
    native = {"rtp", "rtcp", "srtp", "telephone_event"}  # native/core/tests/fuzz_targets.rs runs these
    folders = {path.name for path in REGRESSIONS.iterdir()}
    assert native <= folders <= native | set(TARGETS)
