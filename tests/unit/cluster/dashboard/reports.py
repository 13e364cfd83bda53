"""Results of scans, written by hand."""

import datetime
from collections import Counter
from collections.abc import Sequence

from webhook.cluster.audit import Audited, AuditFinding, Report, Row, coverage, summed, together
from webhook.cluster.auditor.history import Scans, Snapshot
from webhook.cluster.doctor import Diagnosis
from webhook.cluster.judge import STATES, Origin, State
from webhook.cluster.traffic.reviews import Counts

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def pods(**numbers: int) -> dict[State, int]:
    return {state: numbers.get(state, 0) for state in STATES}


def row(
    name: str = "shop",
    kind: str = "Deployment",
    *,
    role: str = "",
    findings: Sequence[AuditFinding] = (),
    api_version: str = "apps/v1",
    counts: dict[str, int] | None = None,
    **numbers: int,
) -> Row:
    counted = pods(**(counts or numbers or {"meshed": 1}))
    return Row(
        kind=kind,
        name=name,
        api_version=api_version,
        role=role,
        state=together([state for state, number in counted.items() if number]),
        pods=counted,
        findings=list(findings),
    )


def app(name: str = "shop") -> list[Row]:
    """The workloads of an environment."""
    return [
        row(f"{name}-master", role="app leader"),
        row(f"{name}-worker", role="app worker"),
        row(f"{name}-build", "Build", role="build"),
        row(f"{name}-database", "StorageInstance", role="database"),
        row(f"{name}-file", "StorageInstance", role="file"),
    ]


def platform() -> list[Row]:
    """Mendix's own."""
    return [row("mendix-operator", role="operator"), row("mendix-agent", role="agent")]


def finding(
    check: str = "proxy-missing",
    *,
    level: str = "deny",
    origin: Origin = "",
    field: str = "spec.initContainers",
    reason: str = "has no linkerd-proxy container",
    fix: str = "see that the injector runs",
    pods: int = 1,
    examples: Sequence[str] = ("shop-1",),
) -> AuditFinding:
    assert level in ("deny", "warning", "exempt")
    return AuditFinding(
        check=check, level=level, field=field, reason=reason, fix=fix,  # type: ignore[arg-type]
        origin=origin, pods=pods, examples=list(examples),
    )  # fmt: skip


def namespace(
    name: str = "mendix",
    *rows: Row,
    mesh: str = "linkerd",
    mode: str = "enforce",
    error: str = "",
) -> Audited:
    total = _total(rows)
    return Audited(
        name=name, mesh=mesh, mode=mode, enrolled=bool(mode), since=NOW if mode else None,
        coverage=coverage(Counter(total)), pods=total, workloads=list(rows), error=error,
    )  # fmt: skip


def _total(rows: Sequence[Row]) -> dict[State, int]:
    return {state: sum(row.pods[state] for row in rows) for state in STATES}


def report(*namespaces: Audited) -> Report:
    return summed(list(namespaces), [])


def scans(
    *namespaces: Audited,
    at: datetime.datetime = NOW,
    diagnosis: Diagnosis | None = None,
    counts: Counts | None = None,
    selected: tuple[str, ...] = (),
) -> Scans:
    made, found = Scans(), report(*namespaces)
    made.scanned(
        Snapshot(
            at=at, seconds=0.5, report=found, selected=selected, diagnosis=diagnosis, counts=counts
        )
    )
    return made
