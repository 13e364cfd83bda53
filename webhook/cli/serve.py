"""`mendix-mesh serve`: the admission server."""

import base64
import tempfile
from pathlib import Path

import click

from webhook.admission import logs, tls
from webhook.admission.server import Options, serve
from webhook.cli._errors import BadInputError
from webhook.cli._settings import read_settings
from webhook.policy.settings import Settings

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "serve",
    epilog="Example: mendix-mesh serve --dev --dev-name mendix-mesh.mendix-mesh.svc",
)
@click.option("--listen", metavar="HOST:PORT", help="Default 0.0.0.0:10250; 127.0.0.1:8443 in dev.")
@click.option("--tls-cert-file", type=_FILE, help="Serving certificate, PEM.")
@click.option("--tls-private-key-file", type=_FILE, help="Its private key, PEM.")
@click.option("--settings", type=_FILE, help="Settings file, YAML; the defaults without it.")
@click.option(
    "--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True,
    help="Least level that is logged.",
)  # fmt: skip
@click.option("--dev", is_flag=True, help="Make a throw-away CA and print its caBundle.")
@click.option("--dev-name", multiple=True, help="Further name or address in that certificate.")
def COMMAND(  # noqa: N802 - the name by which commands are found
    listen: str | None,
    tls_cert_file: Path | None,
    tls_private_key_file: Path | None,
    settings: Path | None,
    log_level: str,
    dev: bool,
    dev_name: tuple[str, ...],
) -> None:
    """Answer the API server's admission reviews over HTTPS."""
    read = read_settings(settings)
    if dev:
        with tempfile.TemporaryDirectory(prefix="mendix-mesh-") as folder:
            cert, key = _throw_away(Path(folder), dev_name)
            _serve(Options(listen or "127.0.0.1:8443", cert, key, log_level), read)
        return
    if tls_cert_file is None or tls_private_key_file is None:
        raise click.UsageError("give --tls-cert-file and --tls-private-key-file, or --dev")
    _serve(
        Options(listen or "0.0.0.0:10250", tls_cert_file, tls_private_key_file, log_level),
        read,
    )


def _serve(options: Options, settings: Settings) -> None:
    try:
        serve(options, settings)
    except tls.CertificateError as error:
        raise BadInputError(str(error)) from None


def _throw_away(folder: Path, names: tuple[str, ...]) -> tuple[Path, Path]:
    pair = tls.throw_away(["localhost", "127.0.0.1", "::1", *names])
    files = {"ca.crt": pair.ca, "tls.crt": pair.cert, "tls.key": pair.key}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    click.echo(f"caBundle: {base64.b64encode(pair.ca).decode()}")
    click.echo(f"curl --cacert {folder / 'ca.crt'} https://localhost:8443/version", err=True)
    return folder / "tls.crt", folder / "tls.key"
