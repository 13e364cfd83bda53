"""`mendix-mesh serve`: the admission server."""

import base64
import ipaddress
import math
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from webhook.admission.server import Options, serve
from webhook.cli._errors import BadInputError
from webhook.cli._names import LOG_LEVELS
from webhook.cli._settings import read_settings
from webhook.serving import tls
from webhook.serving.listening import ListenError, listen

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "serve",
    epilog="Example: mendix-mesh serve --dev --dev-name mendix-mesh.mendix-mesh.svc",
)
@click.option(
    "--listen", "address", metavar="HOST:PORT",
    help="Default :10250, which means all addresses of IPv6 and IPv4; with --dev 127.0.0.1:8443. "
    "Port 0 means any free port.",
)  # fmt: skip
@click.option("--tls-cert-file", type=_FILE, help="Serving certificate, PEM.")
@click.option("--tls-private-key-file", type=_FILE, help="Its private key, PEM.")
@click.option(
    "--tls-server-name", default="", metavar="NAME",
    help="Name under which the API server calls. Other certificates are not used.",
)  # fmt: skip
@click.option(
    "--client-ca-file", type=_FILE,
    help="Accept reviews only from clients with a certificate of this CA, PEM.",
)  # fmt: skip
@click.option(
    "--client-name", multiple=True,
    help="Name that such a certificate must have. Can be given several times.",
)  # fmt: skip
@click.option(
    "--drain-seconds", type=click.FloatRange(0, 600), metavar="SECONDS",
    help="Accept connections for this time after SIGTERM, because API servers learn only later "
    "that the pod stops. Default 5; with --dev 0.",
)  # fmt: skip
@click.option("--settings", type=_FILE, help="Settings file, YAML. Default: the default settings.")
@click.option(
    "--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True,
    help="Lowest level to log.",
)  # fmt: skip
@click.option("--dev", is_flag=True, help="Create a throw-away CA and print its caBundle.")
@click.option(
    "--dev-name", multiple=True,
    help="Further name or address in that certificate. Can be given several times.",
)  # fmt: skip
def COMMAND(  # noqa: N802 - the name by which commands are found
    address: str | None,
    tls_cert_file: Path | None,
    tls_private_key_file: Path | None,
    tls_server_name: str,
    client_ca_file: Path | None,
    client_name: tuple[str, ...],
    drain_seconds: float | None,
    settings: Path | None,
    log_level: str,
    dev: bool,
    dev_name: tuple[str, ...],
) -> None:
    """Answer the API server's admission reviews over HTTPS."""
    files = [file for file in (tls_cert_file, tls_private_key_file) if file]
    if len(files) != (0 if dev else 2):
        raise click.UsageError("give --tls-cert-file and --tls-private-key-file, or --dev alone")
    if client_name and not client_ca_file:
        raise click.UsageError("--client-name needs --client-ca-file")
    if drain_seconds is not None and math.isnan(drain_seconds):
        raise click.UsageError("--drain-seconds nan is no number of seconds")
    read = read_settings(settings)
    if drain_seconds is None:
        drain_seconds = 0 if dev else 5
    try:
        with (
            listen(address or ("127.0.0.1:8443" if dev else ":10250")) as listener,
            ExitStack() as stack,
        ):
            if dev:
                files = _throw_away(_folder(stack), dev_name, listener)
            options = Options(
                listener,
                tls.Files(files[0], files[1], client_ca_file, tls_server_name),
                log_level,
                drain_seconds,
                frozenset(client_name),
            )
            serve(options, read, lambda: read_settings(settings))
    except (ListenError, tls.CertificateError) as error:
        raise BadInputError(str(error)) from None


def _folder(stack: ExitStack) -> Path:
    """A folder that goes with the stack."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mendix-mesh-")))
    except OSError as error:
        raise BadInputError(
            f"--dev has no folder for its certificate: {error.strerror}; name one in TMPDIR"
        ) from None


def _throw_away(folder: Path, names: Sequence[str], listener: socket.socket) -> list[Path]:
    """Make the certificate in a folder, and print how to reach the server with it."""
    host, port = listener.getsockname()[:2]
    anywhere = ipaddress.ip_address(host).is_unspecified
    own = ["localhost", "127.0.0.1", "::1"] + ([] if anywhere else [host])
    # It needs a library of 10 MiB, and the server does not.
    from webhook.serving import trial  # noqa: PLC0415

    pair = trial.throw_away(list(dict.fromkeys([*own, *names])))
    for name, content in {"ca.crt": pair.ca, "tls.crt": pair.cert, "tls.key": pair.key}.items():
        (folder / name).write_bytes(content)
    click.echo(f"caBundle: {base64.b64encode(pair.ca).decode()}")
    shown = "localhost" if anywhere else f"[{host}]" if ":" in host else host
    click.echo(f"curl --cacert {folder / 'ca.crt'} https://{shown}:{port}/version", err=True)
    return [folder / "tls.crt", folder / "tls.key"]
