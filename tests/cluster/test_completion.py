"""Completion in real shells and in kubectl, with names from the real API server.

The account is the auditor's of docs/rbac.yaml.
"""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import requirements
from tests.cluster import command
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import ready_pods, workload
from webhook.cli._complete import SECONDS

ARN = "arn:aws:eks:eu-west-1:1234:cluster/mendix"
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SETUP = {
    "bash": "source <(mendix-mesh completion bash)",
    "zsh": "autoload -U compinit; compinit -u -D; source <(mendix-mesh completion zsh)",
}


@pytest.fixture(scope="module")
def namespace(mesh_cluster: MeshCluster) -> str:
    name = mesh_cluster.plane.new_namespace("completed")
    mesh_cluster.api.create(workload("Deployment", name, "reports"))
    ready_pods(mesh_cluster.api, name, "reports")
    return name


@pytest.fixture(scope="module")
def environment(
    mesh_cluster: MeshCluster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The shell of a user who has installed mendix-mesh and kubectl, and is allowed to audit."""
    home = tmp_path_factory.mktemp("home")
    kubeconfig = command.as_account(mesh_cluster.plane).kubeconfig
    content = yaml.safe_load(kubeconfig.read_text())
    content["contexts"].append({**content["contexts"][0], "name": ARN})
    (home / "kubeconfig").write_text(yaml.safe_dump(content))
    programs = [Path(sys.executable).parent, mesh_cluster.plane.binaries["kubectl"].parent]
    return {
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
        "HOME": str(home),
        "KUBECONFIG": str(home / "kubeconfig"),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        SECONDS: "30",
    }


def need(shell: str) -> None:
    if not shutil.which(shell):
        requirements.not_run(f"{shell} is not installed")


class Terminal:
    """A shell on a terminal."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.execvpe(argv[0], argv, environment)
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def read(self, pattern: str, *, seconds: float = 60.0) -> str:
        """Wait until the shell has printed something, and return it."""
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self._shown)):
            left = until - time.monotonic()
            assert left > 0, f"no {pattern} in {self._shown!r}"
            if select.select([self._fd], [], [], left)[0]:
                self._shown += os.read(self._fd, 4096).decode()
        self._shown = self._shown[found.end() :]
        return found[1]

    def end(self) -> None:
        """Hang up, as a closed window does."""
        os.close(self._fd)
        os.waitpid(self.pid, 0)


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Terminal]:
    """A shell that has read the script."""
    shell = str(request.param)
    need(shell)
    made = Terminal(SHELLS[shell], environment)
    made.type(f"PS1='> '; {SETUP[shell]}; printf '<%s>\\n' rea''dy\n")
    made.read("<(ready)>")
    yield made
    made.end()


def completed(terminal: Terminal, line: str) -> str:
    """Type a line, complete it, and return the line after that.

    The words are given to printf. Then keys move the cursor to the start of the line.
    """
    terminal.type(f"{line}\t\x01printf '<%s>' \x05; printf '<<%s>>\\n' en''d\n")
    shown = terminal.read("((?:<[^<>]+>)+)<<end>>")
    return " ".join(re.findall("<([^<>]+)>", shown))


#: The typed text, and the line after the key. NAME is the namespace.
TYPED = [
    ("mendix-mesh aud", "mendix-mesh audit"),
    ("mendix-mesh audit --wri", "mendix-mesh audit --write-reports"),
    ("mendix-mesh audit --mesh amb", "mendix-mesh audit --mesh ambient"),
    ("mendix-mesh audit --mesh=amb", "mendix-mesh audit --mesh=ambient"),
    ("mendix-mesh audit -n compl", "mendix-mesh audit -n NAME"),
    ("mendix-mesh audit --namespace=compl", "mendix-mesh audit --namespace=NAME"),
    ("mendix-mesh audit --context tests -n compl", "mendix-mesh audit --context tests -n NAME"),
    ("mendix-mesh restart -n NAME depl", "mendix-mesh restart -n NAME deployment/reports"),
    ("mendix-mesh audit --context arn:aws:e", f"mendix-mesh audit --context {ARN}"),
    ("mendix-mesh review -f $HOME/kubec", "mendix-mesh review -f HOME/kubeconfig"),
]


def test_a_key_completes_commands_options_and_names(
    terminal: Terminal, namespace: str, environment: dict[str, str]
) -> None:
    done = [completed(terminal, line.replace("NAME", namespace)) for line, _ in TYPED]
    assert done == [
        wanted.replace("NAME", namespace).replace("HOME", environment["HOME"])
        for _, wanted in TYPED
    ]


def test_fish_completes_them_too(namespace: str, environment: dict[str, str]) -> None:
    """Call fish's own completion command. It returns the last word and its description."""
    need("fish")
    lines = [line.replace("NAME", namespace) for line, _ in TYPED[:-1]]
    script = "mendix-mesh completion fish | source\n" + "".join(
        f"complete -C '{line}'\n" for line in lines
    )
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [
        wanted.replace("NAME", namespace).split()[-1] for _, wanted in TYPED[:-1]
    ]


# As a plugin of kubectl.


def kubectl(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["kubectl", *arguments], env=environment, check=False, capture_output=True, text=True
    )


def test_kubectl_finds_the_plugin_and_it_does_the_same(
    environment: dict[str, str], namespace: str
) -> None:
    listed = kubectl(environment, "plugin", "list")
    assert f"{Path(sys.executable).parent}/kubectl-mendix_mesh" in listed.stdout
    assert "mendix_mesh" not in listed.stderr, "kubectl warns of it"
    usage = kubectl(environment, "mendix-mesh", "--help").stdout
    assert usage.startswith("Usage: kubectl mendix-mesh [OPTIONS] COMMAND [ARGS]...")
    usage = kubectl(environment, "mendix-mesh", "audit", "--help").stdout
    assert usage.startswith("Usage: kubectl mendix-mesh audit [OPTIONS]")
    wrong = kubectl(environment, "mendix-mesh", "audit", "--all")
    assert "Try 'kubectl mendix-mesh audit --help' for help." in wrong.stderr
    done = kubectl(environment, "mendix-mesh", "audit", "-n", namespace, "-o", "json")
    assert done.returncode == 1
    assert f'"name": "{namespace}"' in done.stdout


def test_kubectls_completion_asks_the_plugin(environment: dict[str, str], namespace: str) -> None:
    """`__complete` is the command that kubectl's scripts call, in every shell."""

    def completions(*words: str) -> list[str]:
        return kubectl(environment, "__complete", "mendix-mesh", *words).stdout.splitlines()

    assert completions("audit", "-n", "compl") == [namespace, ":4"]
    assert completions("restart", "-n", namespace, "depl") == ["deployment/reports", ":4"]
    assert completions("audit", "--context", "arn") == [ARN, ":4"]
    assert [line.partition("\t")[0] for line in completions("au")] == ["audit", ":4"]
    assert completions("review", "-f", "") == [":0"]


def test_kubectls_own_script_in_fish_completes_the_plugin(
    environment: dict[str, str], namespace: str
) -> None:
    need("fish")
    script = "kubectl completion fish | source\ncomplete -C 'kubectl mendix-mesh audit -n compl'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [namespace]
