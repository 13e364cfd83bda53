"""Names and texts that want to be more than text; and clusters that are larger than a page."""

import re
from urllib.parse import urlencode

import msgspec
import pytest

from tests.unit.cluster.dashboard.conftest import Open
from tests.unit.cluster.dashboard.reports import finding, namespace, row, scans
from tests.unit.cluster.dashboard.test_denials import DENIED, event
from tests.unit.cluster.hospital import Hospital
from tests.unit.cluster.world import unmeshed
from webhook.cluster.auditor.history import Scans
from webhook.cluster.doctor import Diagnosis, Examined, Finding, Unchecked
from webhook.cluster.traffic.reviews import Answered, Counts, Violated

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7*7 }}{% raw %}",
    "\u202eevil\u202c\u2066x\u2069",
    "שלום مرحبا",
    "a" * 253,
    "javascript:alert(1)",
    "&lt;b&gt;\x00\x1b[31m\n\r\t",
    "x" * 100_000,
    "../../etc/passwd?a=b#c",
)


def hostile(evil: str, *, error: str = "") -> Scans:
    """Hostile text in every field that other users can write."""
    found = [
        finding(level=level, field=evil, reason=evil, fix=evil, examples=[evil])
        for level in ("deny", "warning", "exempt")
    ]
    rows = [row(evil, evil, role="app leader", unmeshed=1, findings=found), row(evil, unmeshed=1)]
    one = namespace("mendix", *rows, mesh=evil, mode=evil)
    broken = namespace("crm", error=evil)
    diagnosis = Diagnosis(
        namespaces=[Examined(name=evil, mesh=evil, mode=evil, meshed="no")],
        findings=[Finding(id=evil, severity="error", namespaces=["mendix", evil], evidence=evil,
                          means=evil, fix=evil)],
        unchecked=[Unchecked(id=evil, namespaces=[evil], why=evil)],
    )  # fmt: skip
    counts = Counts(
        window=3600,
        answers=[Answered(verdict="denied", mesh=evil, kind=evil, times=3)] * 20,
        violations=[Violated(check=evil, mesh=evil, mode=evil, times=1)] * 20,
        error=error,
    )
    known = scans(one, broken, diagnosis=diagnosis, counts=counts)
    assert known.last is not None
    known.last.report.notes.append(evil)
    known.failed(evil)
    return known


def pages(evil: str) -> list[str]:
    name = {"namespace": "mendix", "kind": evil, "name": evil}
    return [
        "/", f"/?{urlencode({'text': evil, 'state': evil, 'mesh': evil, 'page': evil})}",
        "/namespaces/mendix", f"/namespaces/mendix?{urlencode({'text': evil, 'state': evil})}",
        f"/workload?{urlencode(name)}", "/denials", f"/denials?{urlencode({'text': evil})}",
        "/health", "/checks", "/checks/proxy-missing", f"/checks/{urlencode({'': evil})[1:200]}",
    ]  # fmt: skip


def looks_safe(page: str) -> None:
    bare = re.sub(r'<script src="/static/\w+\.js"( defer)?></script>', "", page)
    assert "<script" not in bare.lower()
    assert "<img" not in bare.lower()
    # Attributes are only ours: none has an event handler, none leads to a script.
    for tag in re.findall(r"<[a-z][^>]*>", bare):
        attributes = re.sub(r'="[^"]*"', "=", tag)
        assert not re.search(r"\son\w+=", attributes), tag
        assert not re.search(r'(href|action|src)="(?!/|#)', tag), tag
    assert "49" not in re.findall(r"\b49\b", bare)
    # Nothing changes the direction of text, or controls a terminal.
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", page)


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_evil_stays_text_on_every_page(open_on: Open, world: Hospital, evil: str) -> None:
    world.add("/api/v1/namespaces/mendix/events/a", event(f"{DENIED}{evil}:\n  {evil}  x  y"))
    client = open_on(hostile(evil))
    looks_safe(open_on(hostile(evil, error=evil)).get("/denials").text)
    for page in pages(evil):
        got = client.get(page)
        assert got.status_code in (200, 404), page
        looks_safe(got.text)
        # However long the text, a page stays a page.
        assert len(got.data) < 120_000


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_a_hostile_pod_stays_text_when_it_is_read_live(
    open_on: Open, world: Hospital, evil: str
) -> None:
    pod = unmeshed()
    pod["metadata"]["annotations"] = {"linkerd.io/inject": evil, evil: evil}
    pod["metadata"]["labels"] = {"app": evil}
    pod["spec"]["containers"][0] |= {"name": evil, "image": evil}
    world.pod("mendix", "x", msgspec.json.decode(msgspec.json.encode(pod)))
    known = scans(namespace("mendix", row("x", "Pod", api_version="v1", unmeshed=1)))
    got = open_on(known).get("/workload?namespace=mendix&kind=Pod&name=x")
    assert got.status_code == 200
    assert "1 pod, 0 ready" in got.text
    looks_safe(got.text)


@pytest.mark.parametrize(
    "headers",
    [{"Host": "localhost:" + "9" * 99}, {"Host": EVIL[0]}, {"Host": "a" * 100_000},
     {"Host": "localhost\u00e9"}, {"Sec-Fetch-Site": EVIL[0]}, {"Sec-Fetch-Mode": "x" * 9999}],
)  # fmt: skip
def test_hostile_headers_get_an_answer(open_on: Open, headers: dict[str, str]) -> None:
    got = open_on(scans(namespace())).get("/", headers=headers)
    assert got.status_code in (200, 400, 403)
    assert "<script" not in re.sub(r'<script src="/static/', "", got.text)
    assert len(got.data) < 20_000


# Large clusters.


def large(workloads: int, namespaces: int) -> Scans:
    """Every workload has a name of 250 characters, with as many findings as possible."""
    found = [
        finding(
            f"check-{n}", level=level, reason="r" * 300, fix="f" * 200, field="spec." + "x" * 200
        )
        for n, level in enumerate(("deny", "deny", "warning", "warning"))
    ]
    rows = [
        row(f"app-{n:05}-".ljust(250, "x"), unmeshed=1, findings=found) for n in range(workloads)
    ]
    more = [namespace(f"ns-{n:05}".ljust(63, "y"), row(unmeshed=1)) for n in range(namespaces)]
    return scans(namespace("mendix", *rows), *more)


def test_a_page_of_five_thousand_is_no_heavier_than_one_of_fifty(open_on: Open) -> None:
    few, many = open_on(large(50, 50)), open_on(large(5_000, 5_000))
    for page in ("/", "/namespaces/mendix", "/checks/check-0", "/denials"):
        light, heavy = len(few.get(page).data), len(many.get(page).data)
        assert heavy < light * 1.1 + 2_000, page


def test_every_row_of_five_thousand_is_on_one_of_the_pages(open_on: Open) -> None:
    client = open_on(large(5_000, 0))
    names: set[str] = set()
    for page in range(1, 101):
        text = client.get(f"/namespaces/mendix?page={page}").text
        names |= set(re.findall(r"name=(app-\d{5})", text.partition('id="workloads"')[2]))
    assert len(names) == 5_000


def test_of_five_thousand_pods_of_a_workload_five_hundred_are_judged_and_the_page_shows_it(
    open_on: Open, world: Hospital
) -> None:
    from tests.unit.cluster.world import owned  # noqa: PLC0415

    pod = owned(unmeshed(), "Deployment", "shop")
    for number in range(600):
        world.pod("mendix", f"shop-{number:05}", pod)
    known = scans(namespace("mendix", row(unmeshed=600)))
    got = open_on(known).get("/workload?namespace=mendix&kind=Deployment&name=shop")
    assert "only 500 pods, because the namespace has too many" in got.text
    assert "Page 1 of 10" in got.text
    assert len(got.data) < 120_000
