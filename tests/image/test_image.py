"""The image as a tree, built by the Dockerfile's own steps: what is in it, and that it serves."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image import standin
from tests.image.tree import ROOT, Image, build, contents, ignored, wheels
from tests.unit.admission import reviews
from tests.unit.serving.clients import ServerClient
from tests.unit.serving.server import Files, Server

COMPILERS = re.compile(r"(gcc|g\+\+|cc|c\+\+|clang|tcc|go|rustc|cargo|ld|as|make)([-\d].*)?")
INSTALLERS = re.compile(r"(pip|uv|conda|ensurepip|setuptools|wheel|hatchling)([-\d].*)?")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, image: Image) -> Path:
    """What stands in for the base image."""
    root = tmp_path_factory.mktemp("base")
    standin.make(root)
    return root


def inside(image: Image, *command: str) -> str:
    """Run a command in the image, as its user, and return what it prints."""
    done = subprocess.run(
        [*image.chroot(), *command],
        env=image.stage.env,
        capture_output=True,
        text=True,
        check=False,
    )
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


def test_its_user_does_not_exist_in_the_system_and_its_command_is_ours(image: Image) -> None:
    assert image.stage.user == "65532:65532"
    assert inside(
        image, "python", "-c", "import os; print(os.getuid(), os.getgid(), os.getgroups())"
    ) == ("65532 65532 []\n")
    printed = inside(image, *image.stage.entrypoint, *image.stage.command)
    assert "mendix-mesh" in printed
    assert "serve" in printed


def test_its_labels_say_what_the_project_says(image: Image) -> None:
    prefix = "org.opencontainers.image."
    labels = {key.removeprefix(prefix): value for key, value in image.stage.labels.items()}
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
def served(image: Image, tmp_path: Path) -> Iterator[ServerClient]:
    """A client of the server, which runs in the tree as a kubelet would run it."""
    folder = tmp_path / "files"
    folder.mkdir(mode=0o755)
    files = Files(folder)
    server = Server(
        tmp_path / "server.log",
        "--tls-cert-file=/mnt/tls.crt",
        "--tls-private-key-file=/mnt/tls.key",
        program=[*image.chroot(folder), *image.stage.entrypoint],
        environment=image.stage.env,
    )
    yield ServerClient(server.port, files.ca.read_text())
    assert server.stop() == 0


def test_the_server_runs_in_it_and_answers_reviews(served: ServerClient) -> None:
    assert served.get("/readyz").status == 200
    mutated = served.review("/mutate/linkerd", reviews.review(reviews.pod()))
    assert "linkerd.io/inject" in json.dumps(reviews.patch_of(mutated)) or mutated["allowed"]
    judged = served.review("/validate/linkerd/enforce", reviews.review(reviews.pod()))
    assert judged["allowed"] is False
    assert "proxy-missing" in judged["status"]["message"]


def test_built_again_it_is_the_same_to_the_byte(image: Image, tmp_path: Path) -> None:
    again = build(tmp_path / "tree", cached=False)
    first, second = contents(image.root), contents(again.root)
    # A comparison of ten thousand files would bury the one that differs.
    differing = sorted(
        (inner, first.get(inner), second.get(inner))
        for inner in {*first, *second}
        if first.get(inner) != second.get(inner)
    )
    assert differing == []
    assert times(again.root) == {1580601600} == times(image.root)
    print(f"the image's tree: {image.size / 1e6:.0f} MB, {len(first)} files")


def times(root: Path) -> set[int]:
    """Return the times, in seconds, of all that the Dockerfile's steps set one for."""
    ours = ("opt/mendix-mesh", "usr/local")
    return {int(path.lstat().st_mtime) for place in ours for path in (root / place).rglob("*")}


def test_a_stage_is_rebuilt_if_a_program_of_the_base_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / wheels().name).symlink_to(wheels())
    monkeypatch.setenv("MENDIX_MESH_CACHE", str(cache))
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        "FROM python:3 AS system\nRUN touch /made\nFROM scratch\nCOPY --from=system /usr/bin /bin\n"
    )

    def built(name: str, shell: str) -> str:
        def make(root: Path) -> None:
            standin.skeleton(root)
            standin.add_programs(root, standin.TOOLS)
            (root / "usr/bin/shell").write_text(shell)

        monkeypatch.setattr(standin, "make", make)
        tree = build(tmp_path / name, name=str(dockerfile))
        return (tree.root / "bin/shell").read_text()

    assert built("first", "old") == "old"
    assert built("second", "new") == "new"


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("webhook/cli/serve.py", False),
        ("webhook/__pycache__/a.pyc", True),
        ("requirements/runtime.txt", False),
        ("requirements/dev.txt", True),
        ("tests/conftest.py", True),
        (".git/config", True),
        ("LICENSE", False),
    ],
)
def test_only_what_the_image_is_made_of_is_sent_to_the_builder(path: str, out: bool) -> None:
    assert ignored(Path(path)) is out
