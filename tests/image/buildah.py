"""Builds the image with buildah, on a stand-in for its base image.

`RUN` needs no network: the wheels that the lock files name are downloaded first, and pip is pointed
at them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import build as programs
from tests.image import standin

ROOT = Path(__file__).parents[2]
_LOCKS = ("requirements/runtime.txt", "requirements/build.txt")
_BASE = "localhost/standin"
_TIME = 1580601600  # of all files, so that two builds are the same
#: In the home of the user who runs `RUN`. The wheels are beside it.
_PIP_CONFIG = "[global]\nno-index = true\nfind-links = /root\n"

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
    """The image could not be built. The message has the end of what the program printed."""


@dataclass(frozen=True)
class Image:
    """An image and its files."""

    id: str
    root: Path
    config: dict[str, Any]  # as in the image specification: User, Env, Entrypoint, Cmd, Labels

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        return dict(pair.split("=", 1) for pair in self.config["Env"])

    def chroot(self, files: Path | None = None) -> list[str | Path]:
        """Return the words before a command of the image, to run it as a kubelet does.

        It runs as the image's user, on read-only files, with a /tmp of its own and only the devices
        that programs need. `files` is a folder that becomes /mnt, read-only too. The caller sets
        the environment.
        """
        shell = ["unshare", "--mount", "sh", "-euc", _READ_ONLY, "sh"]
        return [*shell, self.root, self.config["User"], files or ""]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file())


def missing() -> str:
    """Return what this machine lacks to build images; empty if nothing."""
    if os.geteuid():
        return "building the image needs root"
    return "" if shutil.which("buildah") else "building the image needs apt-get install buildah"


@dataclass(frozen=True)
class Store:
    """A folder with buildah's images and containers."""

    folder: Path
    wheels: Path

    def build(self) -> str:
        """Return the id of an image that is built from the Dockerfile, without a cache."""
        if _BASE not in self._run("images", "--format={{.Name}}"):
            with tempfile.TemporaryDirectory(dir=self.folder) as tree:
                standin.make(Path(tree))
                self.add(Path(tree), _BASE)
        options = ["--quiet", "--pull-never", "--jobs=2", f"--timestamp={_TIME}"]
        options += [f"--build-arg=PYTHON={_BASE}", f"--volume={self.wheels}:/root:ro"]
        return self._run("bud", *options, str(ROOT)).splitlines()[-1]

    def open(self, identity: str) -> Image:
        """Return an image with its files."""
        root = self._run("mount", self._run("from", "--pull-never", identity))
        inspected = json.loads(self._run("inspect", "--type=image", identity))
        return Image(identity, Path(root), inspected["OCIv1"]["config"])

    def add(self, tree: Path, name: str, *config: str) -> None:
        """Add an image of a file tree. `config` is arguments of `buildah config`."""
        container = self._run("from", "scratch")
        self._run("add", "--quiet", container, str(tree), "/")
        self._run("config", *config, container)
        self._run("commit", "--quiet", "--rm", container, name)

    def save(self, image: str, archive: Path, name: str) -> None:
        """Write an image for `ctr images import` and `docker load`. `name` has a tag: "shop:1"."""
        archive.unlink(missing_ok=True)
        self._run("push", "--quiet", image, f"docker-archive:{archive}:{name}")

    def _run(self, command: str, *arguments: str) -> str:
        # vfs and chroot work in containers too.
        places = [f"--root={self.folder}/images", f"--runroot={self.folder}/run"]
        return _output(["buildah", *places, "--storage-driver=vfs", command, *arguments])


def wheels(locks: Sequence[str] = _LOCKS) -> Path:
    """Return a folder with the wheels of the lock files, and pip's settings for a home folder."""
    key = hashlib.sha256(sys.version.encode() + _PIP_CONFIG.encode())
    for lock in locks:
        key.update((ROOT / lock).read_bytes())
    folder = programs.cache() / f"wheels-{key.hexdigest()[:12]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as fresh:
        home = Path(fresh, "wheels")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        for lock in locks:
            _output([*pip, "--only-binary=:all:", f"--dest={home}", f"--requirement={ROOT / lock}"])
        (home / ".config/pip").mkdir(parents=True)
        (home / ".config/pip/pip.conf").write_text(_PIP_CONFIG)
        try:
            home.rename(folder)
        except OSError:
            if not folder.exists():  # another run was not first
                raise
    return folder


def _output(command: list[str]) -> str:
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ImageError(f"{' '.join(command)} ended with {done.returncode}:\n{end}")
    return done.stdout.strip()
