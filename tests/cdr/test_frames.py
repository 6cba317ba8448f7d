"""The journal's frames: what was written whole is read, what was torn or damaged is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cdr.frames import FrameKind, ends_cleanly, holds_a_line, pack_frame, scan_frames

_payloads = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
_frames = st.lists(st.tuples(st.sampled_from(FrameKind), st.text(max_size=10), _payloads), max_size=6)


def _pack(frames: list[tuple[FrameKind, str, str]]) -> bytes:
    return b"".join(
        pack_frame(kind, 1.5 + index, key, payload) for index, (kind, key, payload) in enumerate(frames)
    )


@given(_frames, st.integers(0, 40))
def test_frames_come_back_and_zeros_end_them(frames: list[tuple[FrameKind, str, str]], zeros: int) -> None:
    data = _pack(frames)
    read = list(scan_frames(data + bytes(zeros)))
    assert [(frame.kind, frame.payload) for frame in read] == [(kind, payload) for kind, _, payload in frames]
    assert [frame.key for frame in read] == [key or "-" for _, key, _ in frames]
    assert [frame.clock for frame in read] == [1.5 + index for index in range(len(frames))]
    assert ends_cleanly(data + bytes(zeros), len(data))


@given(_frames.filter(bool), st.data())
def test_a_torn_tail_costs_the_last_frame_only(
    frames: list[tuple[FrameKind, str, str]], data: st.DataObject
) -> None:
    whole = _pack(frames[:-1])
    cut = data.draw(st.integers(1, len(_pack(frames)) - len(whole) - 2))
    torn = _pack(frames)[: len(whole) + cut]
    read = list(scan_frames(torn + bytes(30)))
    assert len(read) == len(frames) - 1
    assert not ends_cleanly(torn + bytes(30), len(whole))
    assert not ends_cleanly(whole + bytes(40) + b"3f2a", len(whole))
    assert not holds_a_line(torn + bytes(30), len(whole))
    assert holds_a_line(_pack(frames), len(whole))


@given(_frames.filter(bool), st.binary(min_size=1, max_size=1))
def test_a_line_break_is_no_part_of_what_a_frame_says(
    frames: list[tuple[FrameKind, str, str]], other: bytes
) -> None:
    packed = bytearray(_pack(frames))
    whole = list(scan_frames(bytes(packed)))
    for frame in whole:
        packed[frame.end - 1] = other[0]
    assert list(scan_frames(bytes(packed))) == whole


@given(_frames.filter(bool), st.data())
def test_a_damaged_byte_costs_at_most_the_frame_it_touches(
    frames: list[tuple[FrameKind, str, str]], data: st.DataObject
) -> None:
    packed = bytearray(_pack(frames))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.sampled_from([0x01, 0x40, 0x80]))
    read, whole = list(scan_frames(bytes(packed))), list(scan_frames(_pack(frames)))
    lost = [frame for frame in whole if frame not in read]
    assert set(read) < set(whole) or read == whole
    assert all(frame.start <= place < frame.end for frame in lost)
    gaps = zip([0, *(frame.end for frame in read)], [frame.start for frame in read], strict=False)
    left_out = [place for end, start in gaps for place in range(end, start)]
    if lost and lost != whole[-1:]:
        assert left_out == list(range(lost[0].start, lost[0].end))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    assert len(list(scan_frames(data))) <= len(data)


def test_a_sound_checksum_over_nonsense_is_no_frame() -> None:
    good = pack_frame(FrameKind.LIVE, 1.0, "a", "{}")
    import zlib

    for body in (b"Z 1.000 a {}", b"L x a {}", b"L", b"L 1.0 a \xff"):
        bad = b"%08x %08x %b\n" % (zlib.crc32(body), len(body), body)
        assert [frame.key for frame in scan_frames(bad + good)] == ["a"]
