"""The content of each page, as a reader without JavaScript gets it."""

import datetime
import re
from html.parser import HTMLParser

import pytest

from tests.unit.cluster.apiserver import ScriptedServer
from tests.unit.cluster.dashboard.conftest import Open
from tests.unit.cluster.dashboard.reports import NOW, finding, namespace, row, scans
from tests.unit.cluster.dashboard.test_denials import denial, event
from tests.unit.cluster.hospital import Hospital
from tests.unit.cluster.world import BEFORE, meshed, owned, unmeshed
from webhook.cluster.auditor.history import Scans
from webhook.cluster.doctor import Diagnosis, Examined, Finding, Unchecked
from webhook.cluster.doctor.findings import all_findings
from webhook.cluster.plaintext.acceptance import Gap, PlaintextPolicy
from webhook.cluster.plaintext.policies import Downgrade
from webhook.cluster.traffic.reviews import Answered, Counts, Violated
from webhook.policy.plaintext import Accepts

SHOP = "/workload?namespace=mendix&kind=Deployment&name=shop"
PAGES = ("/", "/namespaces/mendix", SHOP, "/denials", "/health", "/checks", "/checks/host-network")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.links: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(  # html.parser names its arguments
        self,
        tag: str,
        attrs: list[tuple[str, str | None]],
    ) -> None:
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.parts += [value or "" for name, value in attrs if name == "aria-label"]


def read(page: str) -> tuple[str, list[str]]:
    """The text of a page, in one line, and its links."""
    parser = _Text()
    parser.feed(page)
    return " ".join(" ".join(parser.parts).split()), parser.links


def shop(world: Hospital) -> Scans:
    world.pod("mendix", "shop-a", owned(meshed(), "Deployment", "shop"))
    world.pod("mendix", "shop-b", owned(unmeshed(), "Deployment", "shop"), created=BEFORE)
    found = finding(origin="before-enrollment", fix="restart the workload", examples=["shop-b"])
    return scans(namespace("mendix", row(meshed=1, unmeshed=1, findings=[found])))


def test_the_first_page_gives_the_answer_and_leads_to_what_is_outside(
    open_on: Open, world: Hospital
) -> None:
    text, links = read(open_on(shop(world)).get("/").text)
    assert "1 of 2 pods in Mendix namespaces are in the mesh" in text
    assert "1 is outside the mesh" in text
    assert "1 Mendix namespace not enrolled and not audited" in text
    assert "/?state=unmeshed&kind=mendix#namespaces" in links
    assert "/namespaces/mendix" in links


def test_all_in_the_mesh_is_printed_plainly(open_on: Open, world: Hospital) -> None:
    del world.objects[
        "/apis/privatecloud.mendix.com/v1alpha1/namespaces/stray/storageplans/postgres"
    ]
    text, _ = read(open_on(scans(namespace("mendix", row(meshed=3)))).get("/").text)
    assert "All 3 pods in Mendix namespaces are in the mesh" in text


def test_the_first_page_says_which_namespaces_accept_plaintext(open_on: Open) -> None:
    audited = namespace("mendix", row(meshed=3))
    audited.plaintext = PlaintextPolicy(accepts="yes", because=[], gaps=[], downgrades=None)
    text, _ = read(open_on(scans(audited)).get("/").text)
    assert "3 in the mesh linkerd enforce open" in text


def test_namespaces_beside_the_selected_ones_are_not_called_unenrolled(
    open_on: Open, world: Hospital
) -> None:
    world.namespace("stray", "linkerd")
    found = scans(namespace("mendix", row(meshed=3)), selected=("mendix",))
    text, _ = read(open_on(found).get("/").text)
    assert "All 3 pods in the selected namespaces are in the mesh" in text
    assert "stray Mendix not selected" in text
    assert "not enrolled" not in text


def test_before_the_first_look_the_page_says_so(open_on: Open) -> None:
    waiting = Scans()
    client = open_on(waiting)
    assert "first scan of the cluster" in client.get("/").text
    waiting.failed("the API server does not answer")
    text, _ = read(client.get("/").text)
    assert "Not known yet The cluster could not be scanned: the API server does not" in text
    for page in ("/denials", "/health", "/checks", "/checks/host-network"):
        assert client.get(page).status_code == 200
    assert client.get("/namespaces/mendix").status_code == 404


def test_every_page_shows_that_a_scan_failed_or_is_old(open_on: Open, world: Hospital) -> None:
    known = shop(world)
    later = NOW + datetime.timedelta(minutes=30)
    for page in PAGES:
        assert "This page is outdated" not in open_on(known).get(page).text
        text, _ = read(open_on(known, clock=lambda: later).get(page).text)
        assert "This page is outdated: the last scan was 30 minutes ago" in text
    known.failed("etcd is gone")
    for page in PAGES:
        text, _ = read(open_on(known).get(page).text)
        assert "The last scan of the cluster failed" in text
        assert "etcd is gone" in text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["crm", "mendix"]), ("text=cr", ["crm"]), ("mesh=istio", ["crm"]),
        ("state=unmeshed", ["mendix"]), ("state=outside", ["mendix"]), ("kind=other", ["crm"]),
        ("text=nothing", []), ("mesh=linkerd&state=meshed", ["mendix"]),
        ("page=99", ["crm", "mendix"]), ("state=%00&text=%C3", []),
    ],
)  # fmt: skip
def test_rows_are_filtered_by_the_query(open_on: Open, query: str, shown: list[str]) -> None:
    known = scans(
        namespace("mendix", row(meshed=1, unmeshed=1)), namespace("crm", row(), mesh="istio")
    )
    _, links = read(open_on(known).get(f"/?{query}").text)
    found = {link.rpartition("/")[2] for link in links if link.startswith("/namespaces/")}
    assert sorted(found) == shown


def test_a_chosen_filter_stays_chosen(open_on: Open) -> None:
    page = (
        open_on(scans(namespace("mendix", row()))).get("/?mesh=istio&text=%22x&state=partly").text
    )
    assert "<option selected>istio</option>" in page
    assert '<option value="partly" selected>' in page
    assert 'value="&#34;x"' in page


def test_a_namespace_shows_its_workloads_with_the_fix_to_copy(
    open_on: Open, world: Hospital
) -> None:
    page = open_on(shop(world)).get("/namespaces/mendix").text
    text, links = read(page)
    assert "50 % of 2 pods are in the mesh" in text
    assert "has no linkerd-proxy container [ shop-b ]" in text
    assert "Fix: restart the workload (created before the namespace was enrolled)" in text
    assert "<code data-copy>mendix-mesh restart -n mendix</code>" in page
    assert SHOP in links
    assert "/checks/proxy-missing" in links


def test_the_picture_and_its_table_say_the_same(open_on: Open) -> None:
    rows = [
        row("shop-master", role="app leader", unmeshed=1),
        row("shop-worker", role="app worker"),
        row("mendix-agent", role="agent"),
    ]
    text, links = read(open_on(scans(namespace("mendix", *rows))).get("/namespaces/mendix").text)
    assert "Deployment shop-master, app leader: outside the mesh, 0 of 1 meshed" in text
    assert "shop-master HTTP, 8080 plaintext shop-master is outside the mesh" in text
    assert "mendix-agent Mendix Portal websocket, 443 leaves the mesh" in text
    assert links.count("/workload?namespace=mendix&kind=Deployment&name=shop-master") == 2


PLAIN = PlaintextPolicy(
    accepts="partly",
    because=["port 8080 of shop-a: PeerAuthentication mendix/shop is PERMISSIVE for port 8080"],
    gaps=[
        Gap(ports="port 8080", because="PeerAuthentication mendix/shop is PERMISSIVE",
            fix="set its mode to STRICT", pods=4, examples=["shop-a"]),
        Gap(ports="all ports", because="nothing says STRICT", fix="add one", pods=0),
    ],
    downgrades=[Downgrade(rule="mendix/old", field="spec.trafficPolicy.tls.mode", mode="DISABLE",
                          host="crm")],
    level="warning",
)  # fmt: skip


def test_the_page_shows_whether_plaintext_is_accepted_with_each_gap_and_its_fix(
    open_on: Open,
) -> None:
    one = namespace("mendix", row())
    one.plaintext = PLAIN
    text, _ = read(open_on(scans(one)).get("/namespaces/mendix").text)
    assert "Is plaintext accepted? By some pods or ports" in text
    assert "PeerAuthentication mendix/shop is PERMISSIVE [ shop-a and 3 more]" in text
    assert "Fix: set its mode to STRICT" in text
    assert "nothing says STRICT [ pods that are created now" in text
    assert "DestinationRule mendix/old sets DISABLE for crm" in text


@pytest.mark.parametrize(
    ("accepts", "words"),
    [("no", "No, it is rejected"), ("unknown", "Unknown"),
     ("yes", "Yes: clients in the mesh use mutual TLS, but it is not required")],
)  # fmt: skip
def test_what_keeps_plaintext_out_or_hides_it_is_reported(
    open_on: Open, accepts: Accepts, words: str
) -> None:
    one = namespace("mendix", row())
    one.plaintext = PlaintextPolicy(
        accepts=accepts, because=["<b>all is</b>"], gaps=[], downgrades=None
    )
    page = open_on(scans(one)).get("/namespaces/mendix").text
    assert f"Is plaintext accepted? {words}" in read(page)[0]
    assert ("&lt;b&gt;all is&lt;/b&gt;" in page) == (accepts != "yes")


def test_a_namespace_that_could_not_be_read_says_why(open_on: Open) -> None:
    text, _ = read(
        open_on(scans(namespace("mendix", error="forbidden: no"))).get("/namespaces/mendix").text
    )
    assert "Its pods could not be read: forbidden: no" in text


def test_whether_a_new_pod_would_join_is_on_the_pages(open_on: Open) -> None:
    diagnosis = Diagnosis(
        namespaces=[Examined(name="mendix", mesh="linkerd", mode="enforce", meshed="no")],
        findings=[
            Finding(id="unready", severity="error", namespaces=["mendix"], evidence="no endpoint",
                    means="reviews can't be answered", fix="see its pods"),
            Finding(id="order-late", severity="warning", namespaces=["mendix"], evidence="zz",
                    means="m", fix="m", repairs=["sort it"]),
            Finding(id="probe-unmeshed", severity="error", namespaces=["mendix"], evidence="denied",
                    means="m", fix="m", because=["unready"]),
        ],
        unchecked=[Unchecked(id="ca-bundle", namespaces=["mendix"], why="secrets is forbidden")],
    )  # fmt: skip
    client = open_on(scans(namespace("mendix", row()), diagnosis=diagnosis))
    text, _ = read(client.get("/").text)
    assert (
        "No, not in mendix 1 error, 1 warning, 1 finding could not be checked unready no endpoint "
        "and so probe-unmeshed order-late zz" in text
    )
    text, _ = read(client.get("/namespaces/mendix").text)
    assert "New pods do not join the mesh: 3 findings" in text
    text, _ = read(client.get("/health").text)
    assert (
        "no endpoint reviews can't be answered Fix: see its pods Consequence: probe-unmeshed denied"
        in text
    )
    assert "Or: sort it mendix-mesh doctor --fix -n mendix" in text
    assert "ca-bundle mendix secrets is forbidden" in text
    assert "unready found" in text
    assert "ca-bundle could not be checked" in text
    assert "pod-security no finding" in text
    assert all(finding in text for finding in all_findings())


def test_a_workload_shows_each_pod_as_it_is_now(open_on: Open, world: Hospital) -> None:
    page = open_on(shop(world)).get(SHOP).text
    text, _ = read(page)
    assert "Partly in the mesh" in text
    assert text.index("shop-b") < text.index("shop-a")
    assert "Proxy bad: no container linkerd-proxy" in text
    assert "Proxy good: linkerd-proxy, native sidecar" in text
    assert "<code data-copy>mendix-mesh restart -n mendix</code>" in page


def test_an_outdated_workload_has_a_working_command(open_on: Open, world: Hospital) -> None:
    found = row(findings=[finding("proxy-outdated", level="warning")])
    for name, typed in (("mendix", ["mendix-mesh restart -n mendix --outdated"]), ("stray", [])):
        world.pod(name, "shop-a", owned(meshed(), "Deployment", "shop"))
        known = scans(namespace(name, found, mode="enforce" if typed else ""))
        page = open_on(known).get(SHOP.replace("mendix", name)).text
        assert "<h2>Outdated</h2>" in page
        assert re.findall("<code data-copy>(.*)</code>", page) == typed


def test_a_pod_that_was_fixed_since_the_last_look_is_shown_as_it_is(
    open_on: Open, world: Hospital
) -> None:
    known = shop(world)
    world.pod("mendix", "shop-b", owned(meshed(), "Deployment", "shop"))
    text, _ = read(open_on(known).get(SHOP).text)
    assert "Read from the API server just now: 2 pods" in text
    assert "outside the mesh" not in text


def test_what_cannot_be_read_now_is_reported_with_what_was_found(
    open_on: Open, world: Hospital
) -> None:
    known = shop(world)
    world.forbidden.append("/api/v1/namespaces/mendix/pods")
    answer = open_on(known).get(SHOP)
    text, _ = read(answer.text)
    assert answer.status_code == 200
    assert "The pods can't be read now. Below is the result of the scan" in text
    assert 'User "someone" cannot get' in text
    assert "has no linkerd-proxy container" in text


@pytest.mark.parametrize(
    "page",
    ["/namespaces/other", "/workload", "/workload?namespace=mendix&kind=Pod&name=shop",
     "/workload?namespace=other&kind=Deployment&name=shop", "/checks/nothing", "/nothing",
     "/namespaces/..%2f..", "/static/../app.py", "/static/..%2fapp.py"],
)  # fmt: skip
def test_what_is_not_there_is_reported_on_a_page(open_on: Open, world: Hospital, page: str) -> None:
    answer = open_on(shop(world)).get(page)
    assert answer.status_code == 404
    assert "Not found" in answer.text


@pytest.fixture
def denied(world: Hospital) -> Hospital:
    """Events of the webhook's denials."""
    events = "/api/v1/namespaces/mendix/events"
    world.add(f"{events}/a", event(denial("host-network"), name="shop-7fd5"))
    world.add(f"{events}/b", event(denial("proxy-uid"), name="gone-1", count=1))
    world.add(f"{events}/c", {**event(denial("proxy-uid"), name="other"), "reason": "Scheduled"})
    return world


def test_denials_lead_to_the_workload_and_the_check(denied: Hospital, open_on: Open) -> None:
    client = open_on(shop(denied))
    text, links = read(client.get("/denials").text)
    assert "3 times, last 5 seconds ago" in text
    assert "host-network spec.hostNetwork uses the node's network" in text
    assert SHOP in links
    assert "/checks/host-network" in links
    text, _ = read(client.get("/").text)
    assert "Recent denials 4 times mendix/shop-7fd5 host-network" in text
    text, _ = read(client.get("/denials?text=proxy-uid").text)
    assert "gone-1" in text
    assert "shop-7fd5 " not in text


def test_what_was_admitted_is_listed_too(open_on: Open) -> None:
    let = row(unmeshed=1, findings=[finding("host-network", origin="admitted")])
    text, _ = read(open_on(scans(namespace("mendix", let, mode="warn"))).get("/denials").text)
    assert "mendix/shop warn host-network" in text


COUNTS = Counts(
    window=3600,
    answers=[
        Answered(verdict="denied", mesh="linkerd", kind="Pod", times=1200),
        Answered(verdict="warned", mesh="istio", kind="Deployment", times=1),
    ],
    violations=[
        Violated(check="host-network", mesh="linkerd", mode="enforce", times=1200),
        Violated(check="opt-out", mesh="istio", mode="warn", times=1),
    ],
)


def test_the_webhooks_own_count_is_there_with_who_left_no_event(open_on: Open) -> None:
    client = open_on(scans(namespace("mendix", row(meshed=1)), counts=COUNTS))
    page = client.get("/denials").text
    text, links = read(page)
    assert "In the last hour in the whole cluster" in text
    assert "1,200 denied 1 admitted with a warning none admitted and only recorded" in text
    assert "denied Pod linkerd 1,200 times warned Deployment istio 1 time" in text
    assert "host-network linkerd enforce 1,200 times opt-out istio warn 1 time" in text
    assert "/checks/host-network" in links
    text, _ = read(client.get("/denials?text=opt").text)
    assert "opt-out istio warn 1 time" in text
    assert "host-network linkerd enforce" not in text
    text, _ = read(client.get("/").text)
    assert "Recent denials 1,200 times There is no Event for them" in text
    assert "in the last hour: 1,200 denied, 1 admitted with violations" in text


def test_what_events_and_the_count_say_is_not_added_up(denied: Hospital, open_on: Open) -> None:
    shop(denied)
    text, _ = read(open_on(scans(namespace("mendix", row()), counts=COUNTS)).get("/").text)
    assert "Recent denials 4 times mendix/shop-7fd5 host-network" in text
    assert "in the last hour: 1,200 denied" in text


@pytest.mark.parametrize(
    ("counts", "expected", "briefly"),
    [
        (None, "No Prometheus is configured", "Nothing There is no Event"),
        (Counts(window=60, error="http://p <b> is gone"), "Unknown. http://p <b> is gone",
         "From the webhook's metrics: unknown"),
        (Counts(window=1800), "none denied none admitted with a warning",
         "in the last 30 min: none denied, none admitted with violations"),
    ],
)  # fmt: skip
def test_no_count_and_a_count_of_zero_are_distinguished(
    open_on: Open, counts: Counts | None, expected: str, briefly: str
) -> None:
    client = open_on(scans(namespace("mendix", row(meshed=1)), counts=counts))
    assert expected in read(client.get("/denials").text)[0]
    assert briefly in read(client.get("/").text)[0]


def test_events_that_must_not_be_read_are_reported(open_on: Open, world: Hospital) -> None:
    world.forbidden.append("/api/v1/events")
    client = open_on(shop(world))
    for page in ("/", "/denials"):
        text, _ = read(client.get(page).text)
        assert "Events can't be read" in text
        assert 'User "someone" cannot get' in text


def test_without_mendixs_kinds_the_answer_is_about_all(open_on: Open, world: Hospital) -> None:
    world.forbidden.append("/apis/privatecloud.mendix.com")
    text, _ = read(open_on(shop(world)).get("/").text)
    assert "1 of 2 pods in the audited namespaces are in the mesh" in text
    assert "Unknown which namespaces are Mendix namespaces" in text


def test_a_check_is_explained_by_its_own_data(open_on: Open) -> None:
    found = finding("host-network", reason="shares the node's network")
    client = open_on(scans(namespace("mendix", row(unmeshed=1, findings=[found]))))
    text, links = read(client.get("/checks/host-network").text)
    assert "author: remove hostNetwork: true" in text
    assert "Source of the rule linkerd2" in text
    assert SHOP in links
    text, links = read(client.get("/checks").text)
    assert "/checks/proxy-not-ready" in links
    assert "host-network violation 1 uses" in text


@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_inline_script_or_style_or_links_to_other_sites(
    open_on: Open, world: Hospital, page: str
) -> None:
    text = open_on(shop(world)).get(page).text
    assert not re.search(
        r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?! src=\"/static/)", text
    )
    _, links = read(text)
    assert [link for link in links if not re.match(r"/(?!/)|#", link)] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_head_request_has_the_head_of_the_page(open_on: Open, world: Hospital, page: str) -> None:
    answer = open_on(shop(world)).head(page)
    assert answer.status_code == 200
    assert answer.data == b""


def test_a_history_is_also_shown_in_words(open_on: Open, world: Hospital) -> None:
    known = shop(world)
    assert known.last is not None
    known.scanned(known.last)
    text, _ = read(open_on(known).get("/").text)
    assert "Coverage of all pods over 2 scans: from 50 % to 50 %, at its lowest 50 %" in text


def test_pages_only_read_from_the_cluster(
    open_on: Open, world: Hospital, server: ScriptedServer
) -> None:
    client = open_on(shop(world))
    for page in PAGES:
        client.get(page)
    assert {request.method for request in server.requests} == {"GET"}
    assert not any("secrets" in target for target in server.targets)
