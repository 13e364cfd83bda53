"""What is in the image, and that its commands work."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.image import standin
from tests.image.buildah import ROOT, Image, Store
from tests.unit.admission import reviews
from tests.unit.serving.clients import ServerClient
from tests.unit.serving.server import Files, Server
from webhook.cli import main

COMPILERS = re.compile(r"(gcc|g\+\+|cc|c\+\+|clang|tcc|go|rustc|cargo|ld|as|make)([-\d].*)?")
INSTALLERS = re.compile(r"(pip|uv|conda|ensurepip|setuptools|wheel|hatchling)([-\d].*)?")
COMMANDS = main.list_commands(click.Context(main))
MEGABYTES = 160
POD = """\
apiVersion: v1
kind: Namespace
metadata: {name: mendix, labels: {mendix-mesh.io/mesh: linkerd}}
---
apiVersion: v1
kind: Pod
metadata: {name: shop, namespace: mendix}
spec: {hostNetwork: true, containers: [{name: app, image: app}]}
"""
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: me, user: {token: secret}}]
"""
IMPORTS = """
import importlib, pkgutil, webhook
names = [found.name for found in pkgutil.walk_packages(webhook.__path__, "webhook.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, image: Image) -> Path:
    """What stands in for the base image."""
    root = tmp_path_factory.mktemp("base")
    standin.make(root)
    return root


def run(image: Image, *command: str, files: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in the image, as its user."""
    words = [*image.chroot(files), *command]
    return subprocess.run(words, env=image.env, capture_output=True, text=True, check=False)


def inside(image: Image, *command: str) -> str:
    """Return what a command in the image prints."""
    done = run(image, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(root: Path, pattern: re.Pattern[str]) -> list[str]:
    """Return the files and folders of such a name, as paths in the tree."""
    found = (path for path in root.rglob("*") if pattern.fullmatch(path.name))
    return sorted(str(path.relative_to(root)) for path in found)


def setuid(root: Path) -> list[str]:
    bits = stat.S_ISUID | stat.S_ISGID
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(str(path.relative_to(root)) for path in files if path.stat().st_mode & bits)


def test_no_program_in_it_installs_or_compiles(image: Image, base: Path) -> None:
    assert "usr/local/bin/pip" in names(base, INSTALLERS)
    assert names(image.root, INSTALLERS) == []
    programs = [path for path in names(image.root, COMPILERS) if "/bin/" in path]
    assert programs == []


def test_nothing_in_it_is_setuid(image: Image, base: Path) -> None:
    assert setuid(base) == ["usr/bin/su"]
    assert setuid(image.root) == []


def test_it_holds_the_locked_libraries_and_no_others(image: Image) -> None:
    listing = "import importlib.metadata as m; print(*sorted({d.name for d in m.distributions()}))"
    pinned = re.findall(
        r"^([a-z0-9][a-z0-9._-]*)==", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE
    )
    found = {
        name.lower().replace("_", "-") for name in inside(image, "python", "-c", listing).split()
    }
    assert found == {*pinned, "mendix-mesh"}


def test_it_holds_the_package_as_it_is_here_and_no_tests(image: Image) -> None:
    (package,) = image.root.glob("opt/mendix-mesh/lib/python3*/site-packages/webhook")
    there = {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*.py")}
    own = ROOT / "webhook"
    assert there == {str(file.relative_to(own)): file.read_bytes() for file in own.rglob("*.py")}
    assert not (package.parent / "tests").exists()


def test_all_of_it_belongs_to_root_and_only_root_may_write(image: Image) -> None:
    for path in image.root.rglob("*"):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (0, 0), path
        if not stat.S_ISLNK(found.st_mode) and path.name != "tmp":
            assert not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_all_of_its_python_is_compiled_and_never_checked_against_its_source(image: Image) -> None:
    flags = set()
    for source in image.root.glob("**/site-packages/**/*.py"):
        compiled = (
            source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        )
        flags.add(compiled.read_bytes()[4:8])
    # PEP 552: bit 0, by the source's hash and not its time; bit 1, which would have it checked.
    assert flags == {b"\x01\0\0\0"}


def test_its_user_is_nobody_of_the_system_and_its_command_is_ours(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert inside(
        image, "python", "-c", "import os; print(os.getuid(), os.getgid(), os.getgroups())"
    ) == ("65532 65532 []\n")
    printed = inside(image, *image.config["Entrypoint"], *image.config["Cmd"])
    assert "mendix-mesh" in printed
    assert "serve" in printed


def test_its_labels_say_what_the_project_says(image: Image) -> None:
    prefix = "org.opencontainers.image."
    labels = {key.removeprefix(prefix): value for key, value in image.config["Labels"].items()}
    project = (ROOT / "pyproject.toml").read_text()
    for key, label in (("name", "title"), ("description", "description"), ("license", "licenses")):
        assert f'\n{key} = "{labels[label]}"\n' in project


def test_nothing_in_it_can_be_written_but_tmp(image: Image) -> None:
    attempt = """
import pathlib
for place in ("/", "/etc", "/opt/mendix-mesh", "/usr/local/lib", "/dev", "/tmp"):
    try:
        pathlib.Path(place, "new").write_text("")
    except OSError:
        continue
    print(place)
"""
    assert inside(image, "python", "-c", attempt) == "/tmp\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder that the image's user can read."""
    folder = tmp_path / "files"
    folder.mkdir(mode=0o755)
    (folder / "pod.yaml").write_text(POD)
    (folder / "kubeconfig").write_text(KUBECONFIG)
    return folder


@pytest.fixture
def served(image: Image, files: Path, tmp_path: Path) -> Iterator[ServerClient]:
    """A client of the server, which runs as a kubelet would run it."""
    certificate = Files(files)
    server = Server(
        tmp_path / "server.log",
        "--tls-cert-file=/mnt/tls.crt",
        "--tls-private-key-file=/mnt/tls.key",
        program=[*image.chroot(files), *image.config["Entrypoint"]],
        environment=image.env,
    )
    yield ServerClient(server.port, certificate.ca.read_text())
    assert server.stop() == 0


def test_the_server_runs_in_it_and_answers_reviews(served: ServerClient) -> None:
    assert served.get("/readyz").status == 200
    mutated = served.review("/mutate/linkerd", reviews.review(reviews.pod()))
    assert "linkerd.io/inject" in json.dumps(reviews.patch_of(mutated)) or mutated["allowed"]
    judged = served.review("/validate/linkerd/enforce", reviews.review(reviews.pod()))
    assert judged["allowed"] is False
    assert "proxy-missing" in judged["status"]["message"]


def test_every_module_of_the_package_can_be_imported(image: Image) -> None:
    assert int(inside(image, "python", "-c", IMPORTS)) > 100


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(image: Image, command: str) -> None:
    assert f"Usage: mendix-mesh {command}" in inside(image, "mendix-mesh", command, "--help")


@pytest.mark.parametrize("form", ["table", "yaml"])
def test_manifests_can_be_reviewed(image: Image, files: Path, form: str) -> None:
    done = run(image, "mendix-mesh", "review", "-f", "/mnt/pod.yaml", "-o", form, files=files)
    assert (done.returncode, done.stderr) == (1, "")
    assert "host-network" in done.stdout


def test_a_command_can_log_in_to_a_cluster(image: Image, files: Path) -> None:
    done = run(image, "mendix-mesh", "audit", "--kubeconfig=/mnt/kubeconfig", files=files)
    assert done.returncode == 2
    assert "https://127.0.0.1:1 does not answer" in done.stderr


def test_it_is_small(image: Image) -> None:
    print(f"the image has {image.size / 1e6:.0f} MB")
    assert image.size < MEGABYTES * 1e6


def test_a_second_build_gives_the_same_image(image: Image, image_store: Store) -> None:
    # The id is a digest of all files with their modes, owners and times, and of the configuration.
    assert image_store.build() == image.id
