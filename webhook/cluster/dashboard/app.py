"""The pages of the dashboard, as a read-only Flask application."""

import datetime
from collections.abc import Callable, Collection
from typing import Any, Literal

from flask import Flask, Response, abort, render_template, request
from werkzeug.exceptions import HTTPException, NotFound

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import ClusterError
from webhook.cluster.audit import Audited, AuditFinding, Row, together
from webhook.cluster.audit.traffic import PLAINTEXT_TRAFFIC, span
from webhook.cluster.auditor.history import Scans, Snapshot
from webhook.cluster.auditor.tokens import TokenReviewer
from webhook.cluster.dashboard import access, denials, fixes, overview, picture, pods, wires, words
from webhook.cluster.dashboard.drawing import draw
from webhook.cluster.dashboard.history import HEIGHT, WIDTH, history
from webhook.cluster.dashboard.live import Live
from webhook.cluster.dashboard.paging import paged
from webhook.cluster.doctor.findings import all_findings
from webhook.cluster.judge import ORIGINS, STATES, WORST_FIRST, Judge, live
from webhook.cluster.kinds.inventory import Workload
from webhook.policy import checks, plaintext
from webhook.policy.labels import MESHES
from webhook.policy.words import printable
from webhook.version import VERSION

#: The number of missed scans after which the shown data is called old.
_MISSED = 3
#: The maximum number of examples on the first page.
_FEW = 3
_EXPLAINED = {
    **{entry.check.id: entry.check for entry in checks.all_checks().values()},
    **{check.id: check for check in (*live.CHECKS, PLAINTEXT_TRAFFIC)},
}


def create_app(
    scans: Scans,
    cluster: Cluster,
    judge: Judge,
    *,
    hosts: Collection[str] = (),
    interval: float = 60.0,
    reviewer: TokenReviewer | None = None,
    clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Flask:
    """Return the dashboard for the scans in `scans`. Pages read further objects from `cluster`.

    `hosts` are allowed host names in addition to those of the local machine. `interval` is the
    number of seconds between scans. `reviewer` decides who may read; without it, everyone may.
    """
    app = Flask("webhook.cluster.dashboard")
    # Files of the package do not change while the process runs, so browsers may cache them.
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 300
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    words.install(app.jinja_env)
    access.guard(app, hosts, reviewer)
    pages = _Pages(scans, cluster, judge, interval, clock)
    app.context_processor(pages.common)
    for where, page in (
        ("/", pages.show_overview),
        ("/namespaces/<name>", pages.show_namespace),
        ("/workload", pages.show_workload),
        ("/denials", pages.show_denials),
        ("/health", pages.show_health),
        ("/checks", pages.show_checks),
        ("/checks/<name>", pages.show_check),
    ):
        endpoint = page.__name__.removeprefix("show_")
        app.add_url_rule(where, endpoint, page, provide_automatic_options=False)

    @app.errorhandler(HTTPException)
    def error_page(error: HTTPException) -> Response | tuple[str, int]:
        if not isinstance(error, NotFound):
            # An unauthorized reader gets only plain text, because a page shows the name of the
            # cluster.
            text = printable(f"{error.code} {error.name}: {error.description}") + "\n"
            return Response(text, error.code, error.get_headers(), content_type="text/plain")
        return render_template("missing.html", why=error.description), 404

    @app.errorhandler(ClusterError)
    def unavailable(error: ClusterError) -> Response:
        text = printable(f"503 Service Unavailable: {error}") + "\n"
        return Response(text, 503, content_type="text/plain")

    return app


class _Pages:
    """The pages. Each method collects what its template shows."""

    def __init__(
        self,
        scans: Scans,
        cluster: Cluster,
        judge: Judge,
        interval: float,
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._scans = scans
        self._cluster = cluster
        self._judge = judge
        self._interval = interval
        self._clock = clock
        self._live = Live(cluster, judge)

    def common(self) -> dict[str, Any]:
        """Return what every page shows: the cluster, and the age of the data."""
        now, last = self._clock(), self._scans.last
        age = (now - last.at).total_seconds() if last else 0.0
        return {
            "now": now,
            "version": VERSION,
            "cluster": self._cluster.context or self._cluster.server,
            "last": last,
            "error": self._scans.error,
            "is_old": age > _MISSED * self._interval,
            "interval": self._interval,
            "refresh": max(5, min(30, round(self._interval / 2))),
            "states": STATES,
            "origins": ORIGINS,
            "span": span,
            "explained": _EXPLAINED,
            "seen_page": request.endpoint,
        }

    def _parameter(self, name: str) -> str:
        return request.args.get(name, "")[:253].strip()

    def _mendix(self) -> tuple[Collection[str] | None, str]:
        """Return Mendix's namespaces, or why they are unknown."""
        try:
            return self._live.mendix(), ""
        except ClusterError as error:
            return None, str(error)

    def show_overview(self) -> str:
        """Render the overview: how many pods are in the mesh, and where pods are outside."""
        last = self._scans.last
        if last is None:
            return render_template("waiting.html")
        mendix, why = self._mendix()
        every = overview.lines(last.report, mendix, last.selected)
        query = {name: self._parameter(name) for name in ("text", "mesh", "state", "kind")}
        found = overview.matching(every, **query)
        lately, unread = self._denials()
        return render_template(
            "overview.html",
            answer=overview.answer(every),
            selected=last.selected,
            history=history(self._scans.history),
            size=(WIDTH, HEIGHT),
            lines=paged(found, self._parameter("page")),
            every=len(every),
            query=query,
            is_filtered=any(query.values()),
            meshes=(*MESHES, "unknown"),
            mendix_unknown=why,
            diagnosis=last.diagnosis,
            lately=lately.all[:_FEW] if lately else [],
            in_events=sum(one.times for one in lately.all) if lately else 0,
            denials_unknown=unread,
            counts=last.counts,
            notes=last.report.notes,
        )

    def _denials(self) -> tuple[denials.Denials | None, str]:
        try:
            return self._live.denials(), ""
        except ClusterError as error:
            return None, str(error)

    def _audited(self, name: str) -> tuple[Snapshot, Audited]:
        last = self._scans.last
        if last is None:
            abort(404, "the cluster has not been scanned yet")
        found = next((one for one in last.report.namespaces if one.name == name), None)
        if found is None:
            abort(404, f"namespace {name} is not audited")
        return last, found

    def show_namespace(self, name: str) -> str:
        """Render a namespace: the Mendix view and its workloads."""
        last, audited = self._audited(name)
        entry = self._entry(name, audited.mesh)
        scene = picture.scene(audited, entry, wires.of(last.report, name))
        traffic = wires.measured(last.report)
        query = {key: self._parameter(key) for key in ("text", "state")}
        rows = [row for row in audited.workloads if _matches(row, **query)]
        rows.sort(key=_worst_first)
        mendix, _ = self._mendix()
        examined = [
            one for one in (last.diagnosis.namespaces if last.diagnosis else ()) if one.name == name
        ]
        return render_template(
            "namespace.html",
            one=audited,
            state=together([state for state in STATES if audited.pods.get(state)]),
            is_mendix=mendix is not None and name in mendix,
            history=history(self._scans.history, name),
            size=(WIDTH, HEIGHT),
            scene=scene,
            drawing=draw(scene),
            client_plaintext=plaintext.CLIENT_PLAINTEXT,
            rows=paged(rows, self._parameter("page")),
            query=query,
            is_filtered=any(query.values()),
            traffic=traffic,
            took=traffic.namespaces.get(name) if traffic else None,
            would=examined[0].meshed if examined else None,
            findings=[
                one
                for one in (last.diagnosis.findings if last.diagnosis else ())
                if name in one.namespaces
            ],
            command=_commands(audited, is_enrolled=audited.enrolled),
        )

    def _entry(self, namespace: str, mesh: str) -> picture.Entry:
        """Return how clients enter a namespace, as far as reading is allowed."""
        ingresses: int | None = None
        try:
            ingresses = len(self._live.ingresses(namespace))
            entrances = self._live.entrances(mesh)
        except ClusterError:
            return picture.Entry(ingresses, None, [])
        states = [one.state for one in entrances]
        places = sorted({one.namespace for one in entrances})
        return picture.Entry(ingresses, together(states) if states else None, places)

    def show_workload(self) -> str | tuple[str, int]:
        """Render a workload with each of its current pods."""
        where = {name: request.args.get(name, "")[:1000] for name in ("namespace", "kind", "name")}
        last, audited = self._audited(where["namespace"])
        row = next(
            (
                row
                for row in audited.workloads
                if (row.kind, row.name) == (where["kind"], where["name"])
            ),
            None,
        )
        if row is None:
            abort(404, f"no pod of {where['kind']} {where['name']} ran at the last scan")
        workload = Workload(audited.name, row.api_version, row.kind, row.name)
        why, views, cut = "", [], ""
        enrolled = audited.enrolled
        try:
            found = self._live.pods(workload, audited.mesh)
            views, cut = pods.views(found, workload, self._judge), found.cut
            enrolled = found.is_enrolled
        except ClusterError as error:
            why = str(error)
        return render_template(
            "workload.html",
            one=audited,
            row=row,
            state=together([one.state for one in views]) if views else row.state,
            views=paged(views, self._parameter("page")),
            ready=sum(one.is_ready for one in views),
            unread=why,
            cut=cut,
            is_enrolled=enrolled,
            command=_commands(audited, is_enrolled=enrolled),
            stale=[finding for finding in row.findings if finding.check in fixes.OUTDATED],
            at=last.at,
        )

    def show_denials(self) -> str:
        """Render recent denials, and what was admitted although mode enforce would deny it."""
        last = self._scans.last
        found, why = self._denials()
        text = self._parameter("text")
        shown = [
            one
            for one in (found.all if found else ())
            if text.lower() in f"{one.namespace}/{one.name}".lower()
            or text in {cause.check for cause in one.causes}
        ]
        counts = last.counts if last else None
        violations = [one for one in (counts.violations if counts else ()) if text in one.check]
        admitted = [
            (audited, row, finding)
            for audited in (last.report.namespaces if last else ())
            for row in audited.workloads
            for finding in row.findings
            if finding.origin == "admitted" and text.lower() in f"{audited.name}/{row.name}".lower()
        ]
        return render_template(
            "denials.html",
            denials=paged(shown, self._parameter("page")),
            every=len(found.all) if found else 0,
            cut=found.cut if found else False,
            most=denials.MOST_EVENTS,
            unread=why,
            counts=counts,
            answers=paged(counts.answers if counts else [], self._parameter("answers")),
            violations=paged(violations, self._parameter("violations")),
            admitted=paged(admitted, self._parameter("admitted")),
            text=text,
            owner=self._owner,
        )

    def _owner(self, denial: denials.Denial) -> Row | None:
        """Return the workload whose pods were denied, if it has pods.

        For a ReplicaSet this is its Deployment.
        """
        last = self._scans.last
        for audited in last.report.namespaces if last else ():
            if audited.name == denial.namespace:
                names = {(denial.kind, denial.name)}
                if denial.kind == "ReplicaSet":
                    names.add(("Deployment", denial.name.rpartition("-")[0]))
                return next(
                    (row for row in audited.workloads if (row.kind, row.name) in names), None
                )
        return None

    def show_health(self) -> str:
        """Render the health page: injectors, webhooks, certificates and the doctor's findings."""
        last = self._scans.last
        diagnosis = last.diagnosis if last else None
        wrong = {one.id: one.severity for one in diagnosis.findings} if diagnosis else {}
        blind = {one.id for one in diagnosis.unchecked} if diagnosis else set()
        looked = {one.mesh or "unknown" for one in diagnosis.namespaces} if diagnosis else set()
        listed: list[tuple[Any, Literal["error", "warning", "unchecked", "fine", "none"]]] = [
            (
                rule,
                wrong.get(rule.id)
                or ("unchecked" if rule.id in blind else None)
                or ("fine" if looked & set(rule.meshes) else "none"),
            )
            for rule, *_ in all_findings().values()
        ]
        order = ("error", "warning", "unchecked", "fine", "none")
        listed.sort(key=lambda one: (order.index(one[1]), one[0].id))
        return render_template("health.html", diagnosis=diagnosis, listed=listed)

    def show_checks(self) -> str:
        """Render all checks, each with the number of pods that violate it."""
        last = self._scans.last
        return render_template("checks.html", found=last.report.checks if last else {})

    def show_check(self, name: str) -> str:
        """Render the explanation of a check and the workloads that violate it."""
        check = _EXPLAINED.get(name)
        if check is None:
            abort(404, "there is no check with this name")
        last = self._scans.last
        having = [
            (audited, row, finding)
            for audited in (last.report.namespaces if last else ())
            for row in audited.workloads
            for finding in row.findings
            if finding.check == name
        ]
        return render_template(
            "check.html", check=check, having=paged(having, self._parameter("page"))
        )


def _worst_first(row: Row) -> tuple[int, bool, str]:
    denied = any(one.level == "deny" for one in row.findings)
    return WORST_FIRST.index(row.state), not denied, row.name


def _commands(audited: Audited, *, is_enrolled: bool) -> Callable[[Row, AuditFinding], str]:
    """Return a function for templates: the command that fixes a finding of a workload."""
    return lambda row, finding: fixes.command(
        fixes.Subject(
            audited.name, audited.mesh, row.kind, row.name, row.role,
            (finding.examples or [""])[0], is_enrolled,
        ),
        finding.check, finding.level, finding.origin,
    )  # fmt: skip


def _matches(row: Row, text: str, state: str) -> bool:
    """Return whether a row matches the reader's filter."""
    has = text.lower() in f"{row.kind} {row.name} {row.role}".lower() or any(
        text == finding.check for finding in row.findings
    )
    if state == "outside":
        return has and row.state in ("unmeshed", "partly")
    return has and state in ("", row.state)
