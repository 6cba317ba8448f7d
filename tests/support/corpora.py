"""Where the shared test messages lie: beside the project, read and never copied."""

from __future__ import annotations

from pathlib import Path

import pytest

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"


def corpus_files(folder: str, suffix: str) -> list[str]:
    """Names of a corpus's files relative to the corpora, sorted; empty where the corpora are absent."""
    return sorted(
        path.relative_to(CORPORA).as_posix()
        for path in (CORPORA / folder).rglob(f"*{suffix}")
        if path.is_file()
    )


def read_corpus(name: str) -> bytes:
    """Read one file of the corpora; skips the test where the corpora are absent."""
    require_corpora()
    return (CORPORA / name).read_bytes()


def require_corpora() -> None:
    """Skip the test where the corpora are absent."""
    if not CORPORA.is_dir():
        pytest.skip("the shared test messages (../shared/corpora) are not on this machine")
