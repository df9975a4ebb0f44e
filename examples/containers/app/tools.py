"""The adapter of the container example."""

import hashlib
import time
import zlib

import pitboss


@pitboss.tool
def compress(data: bytes, level: int = 6) -> bytes:
    """The data as a zlib stream; level is 0 to 9."""
    return zlib.compress(data, level)


@pitboss.tool
def stretch(password: str, seconds: float = 1.0) -> dict:
    """Hashes the password again and again for so many seconds."""
    digest, rounds, end = password.encode(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        digest = hashlib.sha256(digest).digest()
        rounds += 1
    return {"digest": digest.hex(), "rounds": rounds}
