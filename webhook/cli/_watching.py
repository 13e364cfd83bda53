"""`mendix-mesh audit --watch`, the auditor: it keeps scanning and serves the results."""

import os
import sys
from contextlib import ExitStack

import click

from webhook.admission.clients import Clients
from webhook.cli._errors import BadInputError
from webhook.cli._output import Printer, percent, tally
from webhook.cli._watch_options import Server
from webhook.cluster import dashboard
from webhook.cluster.api.connection import Cluster
from webhook.cluster.audit import Audited, Report
from webhook.cluster.auditor.app import METRICS_ROLE, METRICS_URL, QUICK, create_app
from webhook.cluster.auditor.enroller import Enroller
from webhook.cluster.auditor.events import EventRecorder
from webhook.cluster.auditor.history import Scans
from webhook.cluster.auditor.labels import Labelling, blueprint
from webhook.cluster.auditor.metrics import AuditorMetrics, EnrollmentMetrics
from webhook.cluster.auditor.scan import OnReport, Scanner, ScanOptions, changes
from webhook.cluster.auditor.tokens import TokenReviewer
from webhook.cluster.judge import Judge
from webhook.log import Log
from webhook.policy.settings import Settings
from webhook.serving import logs, tls
from webhook.serving.health import Health
from webhook.serving.listening import ListenError, listen
from webhook.serving.metrics import CertificateMetrics
from webhook.serving.pages import Port, serve
from webhook.serving.rotation import Rotation

log = Log(__name__)


def watch(cluster: Cluster, settings: Settings, options: ScanOptions, server: Server) -> None:
    """Scan and serve until a signal; what can't be served ends the command with exit code 2."""
    scans = Scans()
    metrics = AuditorMetrics(scans)
    app = create_app(scans, metrics, scrapers="none" if server.authenticate_metrics else None)
    try:
        with ExitStack() as stack:
            ports = [Port(stack.enter_context(listen(server.address)), app, quick=QUICK)]
            if server.tls_files:
                files = tls.Files(*server.tls_files, server.client_ca, server.tls_name)
                rotation = Rotation(
                    files, tls.load(files), CertificateMetrics(metrics.registry), Health()
                )
                # Another application: what the API server asks is for it alone.
                scrapers = TokenReviewer(cluster, METRICS_URL, METRICS_ROLE)
                secure = create_app(
                    scans, metrics, scrapers=scrapers if server.authenticate_metrics else None
                )
                clients = Clients(server.client_names) if server.client_ca else None
                labelling = Labelling(
                    cluster,
                    Judge(settings),
                    believes=server.callers_limited or clients is not None,
                )
                secure.register_blueprint(blueprint(labelling, authenticates=clients is not None))
                listener = stack.enter_context(listen(server.tls_address))
                ports.append(Port(listener, secure, rotation, clients, QUICK))
            if server.dashboard:
                pages = dashboard.create_app(
                    scans,
                    cluster,
                    Judge(settings),
                    hosts=server.hosts,
                    interval=options.interval,
                    reviewer=dashboard.reviewer(cluster) if server.authenticate else None,
                )
                ports.append(Port(stack.enter_context(listen(server.dashboard)), pages))
            logs.set_up(server.log_level)
            recorder = None
            if server.events:
                recorder = EventRecorder(cluster, instance=os.environ.get("HOSTNAME", ""))
            scanner = Scanner(
                cluster,
                settings,
                scans,
                metrics,
                options,
                recorder=recorder,
                on_report=_live() if sys.stdout.isatty() else _logged,
            )
            scanner.start()
            stack.callback(scanner.stop)
            if server.auto_enroll:
                enroller = Enroller(
                    cluster,
                    server.auto_enroll,
                    Judge(settings),
                    EnrollmentMetrics(metrics.registry),
                    interval=options.interval,
                    recorder=recorder,
                )
                enroller.start()
                stack.callback(enroller.stop)
            _say(ports)
            serve(ports)
    except (ListenError, tls.CertificateError) as error:
        raise BadInputError(str(error)) from None


def _say(ports: list[Port]) -> None:
    for port in ports:
        host, number = port.listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        address = f"{'https' if port.rotation else 'http'}://{shown}:{number}"
        log.info("listens", address=address)
        if sys.stdout.isatty():
            click.echo(f"{address}/metrics; Ctrl-C ends", err=True)


def _logged(before: Report | None, after: Report) -> None:
    """Log a summary of the first scan, and then each namespace whose numbers change."""
    if before is None:
        log.info(
            "first scan",
            namespaces=len(after.namespaces),
            coverage=after.coverage,
            pods={state: number for state, number in after.pods.items() if number},
        )
        return
    for name, old, new in changes(before, after):
        log.info(
            "changed",
            namespace=name,
            mesh=new.mesh if new else None,
            before=old.coverage if old else None,
            coverage=new.coverage if new else None,
            pods={state: number for state, number in new.pods.items() if number} if new else None,
        )


def _live() -> OnReport:
    """Print a line for each namespace whose numbers change; at first for all of them."""
    printer = Printer("table")

    def on_report(before: Report | None, after: Report) -> None:
        for name, old, new in changes(before, after):
            now = percent(new.coverage if new else None)
            arrow = f"{percent(old.coverage if old else None)} → {now}" if before else now
            style = "green" if new and new.coverage == 100 else "red" if new else "dim"
            printer.parts((f"{name}  ", "bold"), (arrow, style), (f"  {_counts(new)}", "dim"))

    return on_report


def _counts(one: Audited | None) -> str:
    if one is None:
        return "no longer audited"
    if one.error:
        return one.error
    return tally(one.pods) or "empty"
