"""The Kubernetes client stays out of the admission server, and out of every command's start."""

import subprocess
import sys

import pytest

_CLIENT = "import sys; sys.exit('kubernetes' in sys.modules)"
_WHOLE_SERVER = """
import importlib, pkgutil
import webhook.admission, webhook.cli.serve
for module in pkgutil.walk_packages(webhook.admission.__path__, "webhook.admission."):
    importlib.import_module(module.name)
"""
_EVERY_COMMAND = """
from click.testing import CliRunner
from webhook.cli import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
"""
_COMPLETION = """
import os
from contextlib import suppress
from webhook.cli import main
for line in ("mendix-mesh ", "mendix-mesh audit --", "mendix-mesh audit --mesh "):
    os.environ |= {"_MENDIX_MESH_COMPLETE": "bash_complete", "COMP_WORDS": line}
    with suppress(SystemExit):
        main()
"""
_A_LOGIN = """
from contextlib import suppress
from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import ClusterError
with suppress(ClusterError):
    Cluster.connect("/nonexistent")
"""


@pytest.mark.parametrize(
    ("code", "loaded"),
    [(_WHOLE_SERVER, False), (_EVERY_COMMAND, False), (_COMPLETION, False), (_A_LOGIN, True)],
    ids=["the admission server", "the help of every command", "completed options", "a login"],
)
def test_the_client_is_loaded_by_a_login_alone(code: str, loaded: bool) -> None:
    done = subprocess.run([sys.executable, "-c", code + _CLIENT], check=False)
    assert done.returncode == loaded


def test_the_admission_server_does_without_a_library_of_ten_megabytes() -> None:
    code = _WHOLE_SERVER + "import sys; sys.exit('cryptography' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", code], check=False).returncode
