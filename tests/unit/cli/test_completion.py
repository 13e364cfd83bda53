"""The answers to a shell's script. tests/cluster/test_completion.py uses real shells."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.unit.cluster.apiserver import write_kubeconfig
from tests.unit.cluster.world import World, owned, unmeshed
from webhook.cli import main
from webhook.cli._complete import SECONDS
from webhook.cli._shells import SHELLS, VARIABLE

ARN = "arn:aws:eks:eu-west-1:1234:cluster/mendix"


def bash(line: str, *, breaks: str = " \t\n\"'><=;|&(:", **env: str) -> list[str]:
    """Complete the end of a line like the bash script. Return the words for bash."""
    variables = {"COMP_WORDS": line, "COMP_WORDBREAKS": breaks, VARIABLE: "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "webhook"],
        env={**os.environ, SECONDS: "30", **variables, **env},
        check=True,
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert done.stderr == ""
    return [item.partition(",")[2] for item in done.stdout.splitlines() if item]


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    contexts = [{"name": name, "context": {"cluster": "a", "user": "a"}} for name in ("kind", ARN)]
    path = tmp_path / "contexts"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "contexts": contexts}))
    return path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig of a cluster with two namespaces, and workloads in one."""
    world = World()
    for name in ("mendix", "mendix-test", "other"):
        world.namespace(name)
    world.pod("mendix", "shop-0", owned(unmeshed(), "StatefulSet", "shop"))
    world.pod("mendix", "shop-1", owned(unmeshed(), "StatefulSet", "shop"))
    world.pod("mendix", "bare", unmeshed())
    world.pod("other", "crm-0", owned(unmeshed(), "StatefulSet", "crm"))
    with world.serving(tmp_path) as server:
        yield server.kubeconfig


def test_commands_are_completed() -> None:
    assert bash("mendix-mesh d") == ["dashboard", "discover", "doctor"]


def test_options_and_their_values_are_completed() -> None:
    assert bash("mendix-mesh audit --write") == ["--write-reports"]
    assert bash("mendix-mesh audit --mesh ") == ["linkerd", "istio", "ambient"]
    assert bash("mendix-mesh audit --mesh=lin") == ["linkerd"]
    assert bash("mendix-mesh audit --mesh=lin", breaks=" ") == ["--mesh=linkerd"]
    assert bash("mendix-mesh review -f a -o s") == ["sarif"]
    assert bash("mendix-mesh completion z") == ["zsh"]


def test_a_line_that_is_wrong_already_is_quiet() -> None:
    assert "audit" in bash("mendix-mesh nothing ")
    assert bash("mendix-mesh audit -n Ä --mesh nothing -o j") == ["json"]


def test_namespaces_are_those_of_the_cluster_that_the_line_names(cluster: Path) -> None:
    line = f"mendix-mesh audit --kubeconfig {cluster} "
    assert bash(f"{line}-n mendi") == ["mendix", "mendix-test"]
    assert bash(f"{line}-n mendix --namespace=o") == ["other"]
    assert bash(f"{line}--release-namespace o") == ["other"]
    assert bash(f"{line}--context nowhere -n ") == []
    assert bash("mendix-mesh discover -n o", KUBECONFIG=str(cluster)) == ["other"]


def test_workloads_are_those_of_the_namespaces_that_the_line_names(cluster: Path) -> None:
    line = f"mendix-mesh restart --kubeconfig {cluster}"
    assert bash(f"{line} -n mendix ") == ["pod/bare", "statefulset/shop"]
    assert bash(f"{line} -n mendix -n other pod/bare statefulset/c") == ["statefulset/crm"]
    assert bash(f"{line} ") == []


def test_contexts_are_completed_also_behind_a_colon(kubeconfig: Path) -> None:
    line = f"mendix-mesh audit --kubeconfig {kubeconfig} --context "
    assert bash(line) == [ARN, "kind"]
    # For bash a colon ends a word, so it gets the part after the last colon.
    assert bash(line + "arn:aws:e") == [ARN.removeprefix("arn:aws:")]
    assert bash(line + "arn:aws:e", breaks=" ") == [ARN]


@pytest.mark.parametrize("line", ["review -f ", "audit --kubeconfig ", "audit --settings "])
def test_files_are_left_to_the_shell(line: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "webhook"],
        env={**os.environ, "COMP_WORDS": f"mendix-mesh {line}", VARIABLE: "bash_complete"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert outcome.stdout == "file,\n"


def test_a_cluster_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    """A server that accepts the connection and never answers: the client would wait for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        path = write_kubeconfig(tmp_path / "silent", server)
        assert bash(f"mendix-mesh audit --kubeconfig {path} -n ", **{SECONDS: "0.2"}) == []


def test_a_cluster_that_is_not_there_is_quiet(tmp_path: Path) -> None:
    assert bash(f"mendix-mesh audit --kubeconfig {tmp_path}/missing -n ") == []
    assert bash(f"mendix-mesh audit --kubeconfig {tmp_path}/missing --context ") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_names_the_command(shell: str) -> None:
    outcome = CliRunner().invoke(main, ["completion", shell])
    assert outcome.exit_code == 0, outcome.output
    assert f"{VARIABLE}={shell}_complete" in outcome.stdout
    assert outcome.stderr == ""


def test_an_unknown_shell_is_reported() -> None:
    outcome = CliRunner().invoke(main, ["completion", "tcsh"])
    assert outcome.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in outcome.stderr


def test_each_command_is_completed_with_what_it_is_for() -> None:
    shown = kubectl("")
    assert len(shown) == len(main.list_commands(None)) + 1  # type: ignore[arg-type]
    assert all("\t" in line for line in shown[:-1])
    assert "audit\treport which running pods are in the mesh, which are not, and why." in shown


# As a plugin of kubectl.


def kubectl(*words: str, **env: str) -> list[str]:
    """Return the answer of the program that kubectl calls."""
    code = "import sys; from webhook.cli import kubectl_complete; kubectl_complete()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, SECONDS: "30", **env},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_kubectl_gets_names_and_that_these_are_all(cluster: Path) -> None:
    typed = ("audit", "--kubeconfig", str(cluster), "-n", "mendi")
    assert kubectl(*typed) == ["mendix", "mendix-test", ":4"]
    assert kubectl("audit", "--mesh=amb") == ["--mesh=ambient", ":4"]


def test_kubectl_completes_files() -> None:
    assert kubectl("review", "-f", "do") == [":0"]


def test_as_a_plugin_it_names_itself_as_it_was_called() -> None:
    code = "from webhook.cli import kubectl; kubectl()"
    done = subprocess.run(
        [sys.executable, "-c", code, "audit", "--help"], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("Usage: kubectl mendix-mesh audit [OPTIONS]")
