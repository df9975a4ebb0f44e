"""Makes a platform wheel: the Python package as setuptools builds it, with both static binaries among its scripts.

usage: build.py BUILT OUT

BUILT holds bin/ of one architecture, LICENSE and third-party-notices; the wheel goes to OUT. The binaries need no
library of the host, so that one wheel carries the tags of glibc and of musl. Its version is the Python package's own, which is the
binaries': the pair and the package are one version. SOURCE_DATE_EPOCH is the time of every file in it.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from wheel.wheelfile import WheelFile

BINARIES = ("pitboss", "pitboss-watchdog")
# e_machine of ELF (elf.h): the tag comes from the binaries, not from a flag that could differ from them.
MACHINES = {62: "x86_64", 183: "aarch64"}


def machine(binary: Path) -> str:
    """The architecture of a static ELF binary, as wheels name it."""
    head = binary.read_bytes()[:20]
    if head[:4] != b"\x7fELF":
        raise SystemExit(f"cannot make a wheel of {binary}: it is no ELF file")
    return MACHINES[struct.unpack_from("<H", head, 18)[0]]


def pure_wheel(built: Path, work: Path) -> Path:
    """The wheel of the Python package alone, from a copy, so that nothing is left in the source tree."""
    source = work / "source"
    here = Path(__file__).resolve().parents[2] / "python"
    shutil.copytree(here, source, ignore=shutil.ignore_patterns("tests", "__pycache__", "*.egg-info", "build", ".*"))
    shutil.copy(built / "LICENSE", source / "LICENSE")
    shutil.copy(built / "third-party-notices", source / "NOTICE-third-party")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(work), str(source)], check=True)
    (wheel,) = work.glob("*.whl")
    return wheel


def main(built: Path, out: Path) -> None:
    (architecture,) = {machine(built / "bin" / name) for name in BINARIES}
    platforms = [f"manylinux_2_17_{architecture}", f"musllinux_1_1_{architecture}"]
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        pure = pure_wheel(built, work)
        name, version = pure.name.split("-")[:2]
        tree = work / "tree"
        with WheelFile(pure) as archive:
            archive.extractall(tree)
        scripts = tree / f"{name}-{version}.data" / "scripts"
        scripts.mkdir(parents=True)
        for binary in BINARIES:
            shutil.copy(built / "bin" / binary, scripts / binary)
        info = tree / f"{name}-{version}.dist-info" / "WHEEL"
        tags = "".join(f"Tag: py3-none-{platform}\n" for platform in platforms)
        text, replaced = re.subn(r"^Tag: .*\n", tags, info.read_text(), flags=re.MULTILINE)
        text, impure = re.subn("Root-Is-Purelib: true", "Root-Is-Purelib: false", text)
        assert (replaced, impure) == (1, 1), text
        info.write_text(text)
        for file in tree.rglob("*"):
            file.chmod(0o755 if file.is_dir() or file.parent == scripts else 0o644)
        with WheelFile(out / f"{name}-{version}-py3-none-{'.'.join(platforms)}.whl", "w") as archive:
            archive.write_files(str(tree))


if __name__ == "__main__":
    if "SOURCE_DATE_EPOCH" not in os.environ:
        raise SystemExit("cannot make a wheel that comes out the same again: SOURCE_DATE_EPOCH is not set")
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
