"""A tool file of the tests of new code: it says which version ran, and counts what ran by the call's nonce in a file."""

import time

import pitboss

VERSION = "1"


@pitboss.tool
def version(nonce: str, seconds: float = 0.0) -> str:
    time.sleep(seconds)
    with open("ran", "a") as f:
        f.write(nonce + "\n")
    return VERSION
