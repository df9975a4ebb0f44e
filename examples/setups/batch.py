"""Jobs that nobody waits for at a screen."""

import zlib

import pitboss


@pitboss.tool
def checksum(path: str) -> int:
    """CRC-32 of a file, read piece by piece."""
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            crc = zlib.crc32(piece, crc)
    return crc
