"""An image as a docker-archive, the form that `ctr images import` and `docker load` take."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from tests.image.tree import Image

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(image: Image, archive: Path, name: str) -> None:
    """Write an image, as one layer; `name` has a tag, "shop:1"."""
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(image.root.rglob("*")):
            tar.add(path, str(path.relative_to(image.root)), recursive=False)
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = json.dumps(_config(image, digest)).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layers = [f"{digest}/layer.tar"]
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": layers}]
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, layers[0])
        _add(tar, config_name, config)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    layer.unlink()


def _config(image: Image, digest: str) -> dict[str, Any]:
    stage = image.stage
    return {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {
            "Entrypoint": stage.entrypoint,
            "Cmd": stage.command,
            "Env": [f"{key}={value}" for key, value in stage.env.items()],
            "ExposedPorts": {f"{port}/tcp": {} for port in stage.ports},
            "User": stage.user,
            "Labels": stage.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
