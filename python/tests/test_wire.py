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


@given(st.lists(st.binary(max_size=100_000), max_size=3), st.integers(0, 2**64 - 1))
def test_round_trip(parts: list[bytes], call: int) -> None:
    decoder = _wire.Decoder(_wire.DATA)
    (frame,) = decoder.feed(_wire.encode(_wire.RESULT, call, b"null", parts))
    assert frame == _wire.Frame(_wire.RESULT, call, b"null", parts)
