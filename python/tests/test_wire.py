"""The golden frames, shared with the Go half, both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitboss import _wire

FRAMES = Path(__file__).resolve().parents[2] / "ipc" / "testdata" / "frames"
NAMES = sorted(path.stem for path in FRAMES.glob("*.bin"))


def test_there_are_golden_frames_of_every_type() -> None:
    types = {json.loads((FRAMES / f"{name}.json").read_text())["type"] for name in NAMES}
    assert set(_wire.KINDS) <= types


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_golden(name: str, step: int) -> None:
    raw = (FRAMES / f"{name}.bin").read_bytes()
    want = json.loads((FRAMES / f"{name}.json").read_text())
    decoder = _wire.Decoder(want["socket"])
    frames = []
    code = None
    try:
        for at in range(0, len(raw), step):
            frames += decoder.feed(raw[at : at + step])
        decoder.end()
    except _wire.ProtocolError as error:
        code = error.code
    assert code == want["error"]
    if code is not None:
        return
    (frame,) = frames
    text = (want["json"] or "").encode()
    parts = [bytes.fromhex(part) for part in want["parts"]]
    assert frame == _wire.Frame(want["type"], want["call"], text, parts)
    assert _wire.encode(frame.type, frame.call, frame.json, frame.parts) == raw


@given(st.binary(max_size=200), st.sampled_from([_wire.DATA, _wire.CONTROL]))
def test_any_bytes_give_frames_or_one_typed_error(raw: bytes, socket: str) -> None:
    decoder = _wire.Decoder(socket, 1 << 16)
    out = b""
    try:
        for frame in decoder.feed(raw):
            out += _wire.encode(frame.type, frame.call, frame.json, frame.parts)
    except _wire.ProtocolError:
        pass
    assert raw.startswith(out)


def frames_of(decoder: _wire.Decoder, raw: bytes, cuts: list[int]) -> tuple[list[_wire.Frame], str]:
    """What comes out of bytes that arrive cut at these places, and the code of the error that ended it."""
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    frames: list[_wire.Frame] = []
    try:
        for start, end in zip(places, places[1:]):
            for frame in decoder.feed(raw[start:end]):
                frames.append(frame)
        decoder.end()
    except _wire.ProtocolError as error:
        return frames, error.code
    return frames, ""


HEADER = st.builds(
    lambda version, type, flags, json, call, section, parts, reserved: _wire._HEADER.pack(
        version, type, flags, json, call, section, parts, reserved
    ),
    st.sampled_from([1, 1, 1, 1, 0, 2]),
    st.sampled_from([*_wire.KINDS, 0, 5, 99]),
    st.sampled_from([0, 0, 0, 0, 1]),
    st.integers(0, 300) | st.just(2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 300) | st.just(2**32 - 1),
    st.integers(0, 5) | st.integers(1020, 1030),
    st.sampled_from([0, 0, 0, 0, 1]),
)
FRAME = st.builds(
    lambda kind, call, json, parts: _wire.encode(
        kind, call, json if _wire.KINDS[kind].json else b"", parts if _wire.KINDS[kind].parts else []
    ),
    st.sampled_from(sorted(_wire.KINDS)),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=1, max_size=100) | st.integers(65_000, 66_000).map(bytes),
    st.lists(st.binary(max_size=100) | st.integers(65_000, 66_000).map(bytes), max_size=3),
)
TRAFFIC = st.lists(FRAME | HEADER | st.binary(max_size=60), max_size=6).map(b"".join)


@given(TRAFFIC, st.lists(st.integers(0, 200_000), max_size=12), st.sampled_from([_wire.DATA, _wire.CONTROL]), st.integers(0, 1 << 18))
def test_any_split_of_any_traffic_gives_the_same_frames(raw: bytes, cuts: list[int], socket: str, limit: int) -> None:
    whole = frames_of(_wire.Decoder(socket, limit), raw, [])
    assert frames_of(_wire.Decoder(socket, limit), raw, cuts) == whole
    frames, code = whole
    assert code in ("", "version", "type", "socket", "flags", "reserved", "json", "parts", "too_large", "eof")
    sent = b"".join(_wire.encode(frame.type, frame.call, frame.json, frame.parts) for frame in frames)
    assert raw.startswith(sent) and (code != "" or sent == raw)
    for frame in frames:
        assert _wire.payload_size(frame.json, frame.parts) <= limit


@given(HEADER, st.sampled_from([_wire.DATA, _wire.CONTROL]), st.integers(0, 1000))
def test_any_header_allocates_nothing_over_the_limit(header: bytes, socket: str, limit: int) -> None:
    decoder = _wire.Decoder(socket, limit)
    try:
        list(decoder.feed(header))
    except _wire.ProtocolError as error:
        with pytest.raises(_wire.ProtocolError) as again:  # it is not consumed: the connection cannot be read any further
            decoder.next()
        assert again.value.code == error.code
        return
    assert len(decoder.buffer()) <= max(limit, 1 << 16)


@given(st.lists(st.binary(max_size=100_000), max_size=3), st.integers(0, 2**64 - 1))
def test_round_trip(parts: list[bytes], call: int) -> None:
    decoder = _wire.Decoder(_wire.DATA)
    (frame,) = decoder.feed(_wire.encode(_wire.RESULT, call, b"null", parts))
    assert frame == _wire.Frame(_wire.RESULT, call, b"null", parts)
