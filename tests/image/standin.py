"""A stand-in for the base image, made of this machine's own Python and system programs.

It has what the steps of the Dockerfile need, laid out as in the official Python images: Python and
its pip in /usr/local, a shell, a few tools, and libraries. It also has what those steps must take
out: pip itself, and a program that is setuid.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

TOOLS = ("sh", "chmod", "find", "rm", "cat", "sleep")
SETUID = "su"
# Wheels may need these, and every Debian has them: C++'s, and what the C library once was split in.
_LIBRARIES = ("libgcc_s.so.1", "libstdc++.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "site-packages", "config-*", "test", "tests", "*.a"
)
_FOLDERS = ("dev", "etc", "mnt", "opt", "proc", "root", "sys", "tmp", "var")
_MERGED = ("bin", "sbin", "lib", "lib64")  # links into /usr, as every Debian has them


def make(root: Path) -> None:
    """Fill an empty folder."""
    skeleton(root)
    add_programs(root, TOOLS)
    add_programs(root, (SETUID,))
    (root / "usr/bin" / SETUID).chmod(0o4755)
    _add_python(root)


def skeleton(root: Path) -> None:
    """Make the folders that every image has, and the accounts of root."""
    for name in _FOLDERS:
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")


def add_programs(root: Path, names: Iterable[str]) -> None:
    """Copy programs of this machine into /usr/bin, with the libraries that they load."""
    for name in names:
        found = shutil.which(name)
        if not found:
            message = f"the stand-in for the base image needs the program {name!r}"
            raise FileNotFoundError(message)
        program = root / "usr/bin" / name
        # A file of our own even where all tools are one program that looks at its name.
        shutil.copy2(Path(found).resolve(), program)
        add_libraries(root, [program])


def _add_python(root: Path) -> None:
    """Copy Python to /usr/local, and the pip of this environment, without what was compiled."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    local = root / "usr/local"
    library = local / "lib" / version
    shutil.copytree(sysconfig.get_path("stdlib"), library, symlinks=True, ignore=_LEFT_OUT)
    (local / "bin").mkdir()
    shutil.copy2(Path(sys.base_prefix, "bin", version).resolve(), local / "bin" / version)
    (local / "bin/python3").symlink_to(version)
    (local / "bin/python").symlink_to("python3")
    site = library / "site-packages"
    own = Path(sysconfig.get_path("purelib"))
    for folder in (own / "pip", *own.glob("pip-*.dist-info")):
        shutil.copytree(folder, site / folder.name, ignore=_LEFT_OUT)
    (local / "bin/pip").write_text("#!/usr/local/bin/python3\nfrom pip import main\nmain()\n")
    (local / "bin/pip").chmod(0o755)
    add_libraries(root, [local / "bin" / version, *(library / "lib-dynload").glob("*.so")])
    _add_file(root, Path(sysconfig.get_path("stdlib")).parent, "libpython3*.so.*", local / "lib")
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for name in _LIBRARIES:
        path = re.search(rf"^\s*{re.escape(name)} .* => (\S+)$", known, re.MULTILINE)
        if path:
            _add_library(root, Path(path[1]))
    index_libraries(root)


def index_libraries(root: Path) -> None:
    """Have the loader find all libraries, also in folders that it does not know by itself.

    Those are /usr/local/lib and Debian's folders by architecture.
    """
    places = {f"/{file.parent.relative_to(root)}\n" for file in (root / "usr").rglob("*.so*")}
    (root / "etc/ld.so.conf").write_text("".join(sorted(p for p in places if "python" not in p)))
    subprocess.run(["ldconfig", "-r", root], check=True)


def _add_file(root: Path, folder: Path, pattern: str, target: Path) -> None:
    for file in folder.glob(pattern):
        shutil.copy2(file, target / file.name)


def add_libraries(root: Path, files: Iterable[Path]) -> None:
    """Copy what the loader would load for these files, to the place where it is here."""
    for file in files:
        said = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
        for path in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", said, re.MULTILINE):
            _add_library(root, Path(path))


def _add_library(root: Path, path: Path) -> None:
    if path.is_relative_to(sys.base_prefix) and sys.base_prefix != "/usr":
        target = root / "usr/local/lib" / path.name
    else:
        # /lib is /usr/lib, here or only there.
        place = path if path.is_relative_to("/usr") else Path("/usr", *path.parts[1:])
        target = root / place.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(os.path.realpath(path), target)
