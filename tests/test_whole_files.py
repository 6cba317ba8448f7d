"""Files that somebody asks for, written where another may change what has a name."""

from __future__ import annotations

from pathlib import Path

from proxy.whole_files import whole_file


def test_nothing_is_written_where_a_link_leads_that_takes_the_place_of_the_file(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "out"
    other.write_text("kept")
    with whole_file(path, replace=False, store=None) as (file, temporary):
        temporary.unlink()
        temporary.symlink_to(other)
        file.write(b"new")
    assert other.read_text() == "kept"
