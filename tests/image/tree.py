"""Build the image's file tree by the Dockerfile's own steps, without a container engine.

Needs root, for chroot. A stage whose inputs did not change, the stand-in for its base among them,
is taken from the cache. `RUN` has no network: the wheels that the lock files name are fetched
before, and pip is pointed at them.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.cluster import build as programs
from tests.image import standin
from tests.image.dockerfile import DockerfileError, Stage, Step, read

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements/runtime.txt", "requirements/build.txt")
_KEEP = 4  # trees of a stage that stay in the cache: some checkouts use the same one

# What a container engine does for RUN: devices and processes, and a /tmp that does not stay.
_RUN = """
set -e
root=$1; shift
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/tmp/wheels"
mount --bind "$1" "$root/tmp/wheels"; shift
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"""


# What a kubelet makes of `readOnlyRootFilesystem` and an emptyDir at /tmp, without a /dev/shm.
_READ_ONLY = """
root=$1 user=$2 files=$3; shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null random urandom zero; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount --rbind /proc "$root/proc"
if [ "$files" ]; then
  mount --bind "$files" "$root/mnt"
  mount -o remount,bind,ro "$root/mnt"
fi
chroot=$(PATH=$PATH:/usr/sbin:/sbin; command -v chroot)
exec setpriv --no-new-privs "$chroot" --userspec="$user" --groups= "$root" "$@"
"""


class ImageError(Exception):
    """The tree could not be built; the message says which step failed, and what it said."""


@dataclass(frozen=True)
class Image:
    """A file tree and what the Dockerfile says of how to run it."""

    root: Path
    stage: Stage

    def chroot(self, files: Path | None = None) -> list[str | Path]:
        """Return the words before a command of the image's, to run it as a kubelet would have it.

        As the image's user, on a read-only tree, with a /tmp of its own and only the devices that
        programs cannot do without; `files` is a folder that becomes /mnt, read-only too. Its
        environment is for the caller to set: that of the stage.
        """
        shell = ["unshare", "--mount", "sh", "-euc", _READ_ONLY, "sh"]
        return [*shell, self.root, self.stage.user, files or ""]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file())


def wheels() -> Path:
    """Return a folder with the wheels of LOCKS, fetched once and checked by their hashes."""
    key = hashlib.sha256(sys.version.encode())
    for lock in LOCKS:
        key.update((ROOT / lock).read_bytes())
    folder = programs.cache() / f"wheels-{key.hexdigest()[:12]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as fresh:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"]
        for lock in LOCKS:
            command = [*pip, "--only-binary=:all:", f"--dest={fresh}/wheels", f"-r{ROOT / lock}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                message = f"the wheels of {lock} could not be fetched:\n{done.stderr}"
                raise ImageError(message)
        _put(Path(fresh) / "wheels", folder)
    return folder


def build(target: Path, *, cached: bool = True, name: str = "Dockerfile") -> Image:
    """Build the image into a folder that does not exist yet. Raises ImageError."""
    if os.geteuid():
        raise ImageError("building the image's tree needs root, for chroot")
    fetched = wheels()
    stages = read(ROOT / name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".base-") as folder:
        base = Path(folder) / "tree"
        base.mkdir()
        standin.make(base)
        builder = _Builder(target, fetched, base, cached=cached)
        for stage in stages:
            builder.build(stage, last=stage is stages[-1])
    return Image(target, stages[-1])


@dataclass
class _Builder:
    target: Path
    wheels: Path
    base: Path  # what stands in for every image that a stage begins with
    cached: bool
    trees: dict[str, Path] = field(default_factory=dict)  # by the stage's name
    keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Of all of it: this machine's programs and libraries change while its Python stays.
        key = hashlib.sha256(Path(__file__).read_bytes())
        for inner, found in sorted(contents(self.base).items()):
            key.update(f"{inner} {found}\n".encode())
        self._base_key = key.hexdigest()

    def build(self, stage: Stage, *, last: bool) -> None:
        key = self._key(stage)
        self.keys[stage.name] = key
        place = self.target if last else self._place(stage, key)
        self.trees[stage.name] = place
        if place.exists():
            os.utime(place.parent)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".new-") as folder:
            tree = Path(folder) / "tree"
            self._begin(stage, tree)
            for step in stage.steps:
                (self._run if step.instruction == "RUN" else self._copy)(tree, step)
            _put(tree, place)

    def _place(self, stage: Stage, key: str) -> Path:
        if not self.cached:
            return self.target.parent / f"{self.target.name}-stages" / stage.name / "tree"
        folder = programs.cache() / "image"
        old = sorted(folder.glob(f"{stage.name}-*"), key=lambda found: -found.stat().st_mtime)
        for one in old[_KEEP:]:
            shutil.rmtree(one, ignore_errors=True)
        return folder / f"{stage.name}-{key[:12]}" / "tree"

    def _key(self, stage: Stage) -> str:
        """Digest what the stage is made of: its base, its steps, and what they copy."""
        key = hashlib.sha256(self.keys.get(stage.base, self._base_key).encode())
        for step in stage.steps:
            key.update(repr(step).encode())
            if step.instruction == "COPY":
                origin, sources, _ = _copy_arguments(step)
                key.update(self.keys[origin].encode() if origin else _digest(sources))
        return key.hexdigest()

    def _begin(self, stage: Stage, tree: Path) -> None:
        if stage.base == "scratch":
            tree.mkdir()
        else:
            _cp(self.trees.get(stage.base, self.base), tree)

    def _run(self, tree: Path, step: Step) -> None:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/tmp/wheels",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            **step.arguments,
        }
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _RUN, "sh"]
        done = subprocess.run(
            [*inside, tree, self.wheels, "/bin/sh", "-c", step.text],
            env=environment | {"PATH": f"{environment['PATH']}:/usr/sbin:/sbin"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise ImageError(f"RUN {step.text} ended with {done.returncode}:\n{said}")

    def _copy(self, tree: Path, step: Step) -> None:
        origin, sources, place = _copy_arguments(step)
        target = tree / place.lstrip("/")
        for source in sources:
            if origin:
                self._copy_from(self.trees[origin] / source.lstrip("/"), target)
            else:
                for file in _context(source):
                    # As COPY has it: a folder's content, but a file by its name.
                    inner = file.relative_to(source) if str(file) != source else Path(file.name)
                    (target / inner).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / file, target / inner)

    def _copy_from(self, source: Path, target: Path) -> None:
        if target.exists():
            target.rmdir() if target.is_dir() and not any(target.iterdir()) else None
        target.parent.mkdir(parents=True, exist_ok=True)
        _cp(source, target)


def _copy_arguments(step: Step) -> tuple[str, list[str], str]:
    """Return of COPY the stage that it copies from (else ""), its sources and its target."""
    words = step.text.split()
    options = [word for word in words if word.startswith("--")]
    *sources, place = [word for word in words if not word.startswith("--")]
    if any(not option.startswith("--from=") for option in options):
        raise DockerfileError(f"COPY {step.text}")
    return (options[0].removeprefix("--from=") if options else ""), sources, place


def _context(source: str) -> Iterator[Path]:
    """Yield the files of the build context that are, or are under, a path, relative to ROOT."""
    found = ROOT / source
    files = sorted(found.rglob("*")) if found.is_dir() else [found]
    for file in files:
        inner = file.relative_to(ROOT)
        if file.is_file() and not ignored(inner):
            yield inner
        elif not file.exists() or (file == found and ignored(inner)):
            raise ImageError(f"COPY {source}: not in the build context; see .dockerignore")


def contents(root: Path) -> dict[str, tuple[str, int, int, str]]:
    """Return for each path below a folder its mode, owner, group, and its digest or target."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        inner = str(path.relative_to(root))
        found[inner] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def ignored(path: Path) -> bool:
    """Say whether .dockerignore keeps a path out of the build context: the last match decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        matched = any(_matches(part, pattern.lstrip("!")) for part in (path, *path.parents))
        out = not pattern.startswith("!") if matched else out
    return out


def _matches(path: Path, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(path.name, pattern[3:])
    return (
        path != Path()
        and path.parent == Path(pattern).parent
        and fnmatch(path.name, Path(pattern).name)
    )


def _digest(sources: list[str]) -> bytes:
    key = hashlib.sha256()
    for source in sources:
        for file in _context(source):
            key.update(f"{file}\n".encode() + hashlib.sha256((ROOT / file).read_bytes()).digest())
    return key.digest()


def _cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", "--reflink=auto", source, target], check=True)


def _put(tree: Path, place: Path) -> None:
    """Move a finished tree to its place, unless another run was first."""
    try:
        tree.rename(place)
    except OSError:
        if not place.exists():
            raise
