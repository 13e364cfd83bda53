"""The dashboard in a real browser, with a real API server.

Nodes are simulated. Linkerd's injector and the Mendix Operator are stand-ins; the webhook is real.
"""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests import prometheus
from tests.cluster import command, dashboard, gallery
from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.browser import DESK, PHONE, Reader, chromium
from tests.cluster.gallery import APPS, CRM, INGRESS, TEST
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import pod
from webhook.cluster.kinds.entrances import CONTROLLER, GATEWAYS

SHOP = f"/workload?namespace={APPS}&kind=Deployment&name=shop-master"
PAGES = (
    "/", "/?state=unmeshed&kind=mendix", f"/namespaces/{APPS}", f"/namespaces/{TEST}",
    f"/namespaces/{CRM}", SHOP, f"/workload?namespace={TEST}&kind=Pod&name=shop-debug",
    "/denials", "/health", "/checks", "/checks/host-network",
)  # fmt: skip
NAMED = tuple(part for name in (APPS, TEST, CRM) for part in ("-n", name))


@pytest.fixture(scope="module")
def populated(mesh_cluster: MeshCluster) -> Iterator[MeshCluster]:
    """The cluster with something of everything, and one ingress controller."""
    _without_other_controllers(mesh_cluster)
    gallery.populate(mesh_cluster)
    yield mesh_cluster
    gallery.unlabel(mesh_cluster)


def _without_other_controllers(cluster: MeshCluster) -> None:
    """Remove what other tests left, because the picture shows every possible client."""
    api = cluster.api

    def there() -> list[Json]:
        return [one for labels in (CONTROLLER, *GATEWAYS) for one in api.list("Pod", labels=labels)]

    for where in {one["metadata"]["namespace"] for one in there()}:
        for kind in ("Deployment", "DaemonSet", "Pod"):
            for one in api.list(kind, where):
                with contextlib.suppress(StatusError):  # gone with its owner
                    api.delete(kind, one["metadata"]["name"], where, grace=0)
    wait_for(lambda: not there(), why="other ingress controllers to be gone")


@pytest.fixture(scope="module")
def metrics(
    mesh_cluster: MeshCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[prometheus.Server]:
    """A Prometheus that scrapes the webhook's servers, started before the first denial."""
    folder = tmp_path_factory.mktemp("prometheus")
    servers = [f"https://{one}" for one in mesh_cluster.kubelet.addresses()]
    with prometheus.serving(folder, scraped=servers) as running:
        running.wait_for_scrapes(1)
        yield running


@pytest.fixture(scope="module")
def url(
    metrics: prometheus.Server, populated: MeshCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The dashboard, by an administrator's rights."""
    log = tmp_path_factory.mktemp("dashboard") / "log"
    kubeconfig = populated.plane.kubeconfig
    options = ("--interval", "5", "--prometheus", metrics.url)
    with dashboard.running(kubeconfig, log, *NAMED, *options) as found:
        # The doctor runs after the first scan.
        wait_for(
            lambda: "has not run yet" not in httpx.get(f"{found}health").text, why="the doctor"
        )
        yield found


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[Browser]:
    """One browser for all tests, in the cluster's network."""
    with chromium() as running:
        yield running


Opens = Callable[..., Reader]


@pytest.fixture
def opens(browser: Browser, url: str) -> Iterator[Opens]:
    """A reader with a browser. At the end, the browser must have no errors."""
    readers: list[Reader] = []

    def opened(**options: Any) -> Reader:
        readers.append(Reader(browser, url, **options))
        return readers[-1]

    yield opened
    for reader in readers:
        reader.close()
        assert reader.complaints == []
        assert reader.strangers == []


def faults(page: Page) -> list[str]:
    """Return the violations that axe finds: WCAG 2.2 A and AA, and its best practices."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:5]}"
        for one in found
    ]


@pytest.mark.parametrize(("size", "dark"), [(DESK, False), (PHONE, True)], ids=["desk", "phone"])
def test_every_page_is_for_everyone(opens: Opens, dark: bool, size: tuple[int, int]) -> None:
    reader = opens(dark=dark, size=size)
    for path in PAGES:
        page = reader.open(path)
        assert faults(page) == [], path
        assert not reader.overflows, path
        for details in page.locator("summary").all():
            details.click()
        assert faults(page) == [], f"{path}, all open"
        assert not reader.overflows, f"{path}, all open"


def test_the_answer_is_that_of_the_audit(opens: Opens, populated: MeshCluster) -> None:
    report = command.as_admin(populated.plane).audit(*NAMED)
    pods = report["pods"]
    text = opens().open("/").inner_text("h1")
    assert f"{pods['meshed']} of {sum(pods.values())}" in text
    assert "pods in the selected namespaces are in the mesh" in text
    assert pods["unmeshed"] > 0


def test_the_mendix_view_shows_who_is_meshed_and_leads_there(opens: Opens) -> None:
    page = opens().open(f"/namespaces/{APPS}")
    picture = page.locator("svg.picture")
    assert picture.locator("text", has_text="Ingress controller").count() == 1
    assert picture.locator("text", has_text=INGRESS).count() == 1
    for name in ("app leader", "build", "database", "operator", "agent"):
        assert picture.locator(f"a[aria-label*=', {name}:']").count() >= 1, name
    table = page.locator("details.equal")
    table.locator("summary").click()
    rows = {
        (cells[0], cells[1]): cells[3]
        for row in table.locator("tbody tr").all()
        if (cells := row.locator("td").all_inner_texts())
    }
    assert rows["Ingress controller", "orders-master"] == "not observed"
    assert rows["Ingress controller", "shop-master"] == "partly mutual TLS"
    assert rows["orders-build", "Image registry"] == "leaves the mesh"
    picture.locator("a[aria-label*='orders-master']").click()
    page.wait_for_url("**/workload?**")
    assert page.inner_text("h1") == "orders-master"


def test_a_workload_shows_the_evidence_of_each_pod_and_a_fix_to_copy(opens: Opens) -> None:
    page = opens().open(SHOP)
    assert page.locator("article.pod").count() == 2
    first, second = page.locator("article.pod").all()
    assert "no container linkerd-proxy" in first.inner_text()
    assert "created before the namespace was enrolled" in first.inner_text()
    assert "linkerd-proxy, native sidecar" in second.inner_text()
    first.get_by_role("button", name="Copy: mendix-mesh restart").click()
    page.get_by_text("Copied").first.wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"mendix-mesh restart -n {APPS}"


def test_what_was_denied_and_what_was_admitted_is_there_with_reasons(opens: Opens) -> None:
    page = opens().open("/denials")
    denied = page.locator("article", has_text="reports-").first.inner_text()
    assert "host-network" in denied
    assert "author: remove hostNetwork: true" in denied
    assert "linkerd.enforce" in denied
    admitted = page.locator("tr", has_text="shop-debug").inner_text()
    assert "warn" in admitted
    assert "host-network" in admitted


def test_what_kubectl_was_denied_is_in_the_webhooks_own_count(
    opens: Opens, populated: MeshCluster
) -> None:
    reader = opens()

    def denied() -> int:
        found = reader.open("/denials").locator("[aria-labelledby=counted] tbody tr")
        cells = [row.locator("th, td").all_inner_texts() for row in found.all()]
        numbers = [one[3] for one in cells if one[:3] == ["host-network", "linkerd", "enforce"]]
        return int(numbers[0].split()[0].replace(",", "")) if numbers else 0

    before = denied()
    for _ in range(10):
        with pytest.raises(StatusError, match="host-network"):
            populated.api.create(pod(CRM, "by-hand", hostNetwork=True))
    wait_for(lambda: denied() >= before + 10, seconds=30, why="the dashboard to know")
    text = reader.open("/").inner_text("[aria-labelledby=denied]")
    assert "From the webhook's metrics, in the last hour:" in text


def test_filters_narrow_the_list_and_can_be_linked_to(opens: Opens) -> None:
    page = opens().open("/")
    page.get_by_role("searchbox", name="Name").fill("crm")
    page.get_by_label("Type").select_option("mendix")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/?text=crm**kind=mendix")
    assert page.locator("tbody a.name").all_inner_texts() == ["crm"]
    page.get_by_role("link", name="Show all").click()
    page.wait_for_url("**/#namespaces")
    assert len(page.locator("tbody a.name").all()) >= 3
    page.locator("ul.answers a").first.click()
    page.wait_for_url("**state=unmeshed**")
    assert set(page.locator("tbody a.name").all_inner_texts()) == {APPS, TEST}


def test_all_can_be_done_by_keyboard_and_the_focus_is_seen(opens: Opens) -> None:
    page = opens().open("/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    reached: list[str] = []
    for _ in range(60):
        name = focused(page)
        reached.append(name)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'"), (
            f"the focus on {name} is not seen"
        )
        if name == APPS:
            break
        page.keyboard.press("Tab")
    assert APPS in reached
    assert "Show" in reached
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/namespaces/{APPS}")


def focused(page: Page) -> str:
    name: str = page.evaluate("document.activeElement.textContent.trim()")
    return name


def test_the_focus_in_the_picture_is_seen_too(opens: Opens) -> None:
    page = opens().open(f"/namespaces/{APPS}")
    node = page.locator("svg.picture a").first
    page.locator(".scroller").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('svg.picture a')")
    width = node.locator(".plate").evaluate("one => getComputedStyle(one).strokeWidth")
    assert width == "2px"


def test_without_scripts_everything_is_there_but_the_conveniences(opens: Opens) -> None:
    reader = opens(scripts=False)
    for path in PAGES:
        page = reader.open(path)
        assert page.locator("main h1").count() == 1, path
        assert page.locator("button.copy, button.tool").count() == 0, path
    page = reader.open("/")
    page.get_by_role("searchbox", name="Name").fill("crm")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/?text=crm**")
    assert page.locator("tbody a.name").all_inner_texts() == ["crm"]


def test_the_colours_are_the_systems_until_the_reader_chooses(opens: Opens) -> None:
    reader = opens()
    light = background(reader.open("/"))
    reader.page.get_by_role("button", name="Dark").click()
    dark = background(reader.page)
    assert dark != light
    assert background(reader.open("/checks")) == dark
    assert reader.page.evaluate("Object.keys(localStorage)") == ["mendix-mesh-theme"]
    assert background(opens(dark=True).open("/")) == dark


def background(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


def test_nothing_moves_for_users_who_prefer_reduced_motion(opens: Opens) -> None:
    for calm, seconds in ((True, "0s"), (False, "0.12s")):
        page = opens(calm=calm).open("/")
        button = page.get_by_role("button", name="Show")
        found = button.evaluate("one => getComputedStyle(one).transitionDuration")
        assert found.partition(",")[0] == seconds


def test_a_page_refreshes_itself_and_keeps_what_is_open(
    opens: Opens, populated: MeshCluster
) -> None:
    reader = opens()
    page = reader.open(f"/namespaces/{CRM}")
    page.evaluate("window.stays = true")
    page.locator("details.equal summary").click()
    assert "100 %" in page.inner_text(".big-line")
    gallery.unlabel_one(populated, CRM)
    populated.api.create(pod(CRM, "stranger", hostNetwork=True))
    gallery.label_one(populated, CRM)
    page.locator("article", has_text="stranger").wait_for()
    assert page.evaluate("window.stays")
    assert page.locator("details.equal").get_attribute("open") is not None
    assert "100 %" not in page.inner_text(".big-line")
    page.locator("#news", has_text=f"{CRM}: 80 % of its pods are in the mesh").wait_for(
        state="attached"
    )
    page.get_by_role("button", name="Pause").click()
    populated.api.delete("Pod", "stranger", CRM, grace=0)
    wait_for(
        lambda: "100 %" in httpx.get(f"{reader.url}/namespaces/{CRM}").text, seconds=30,
        why="the dashboard to know",
    )  # fmt: skip
    page.wait_for_timeout(6_000)
    assert page.locator("article", has_text="stranger").count() == 1
    page.get_by_role("button", name="Resume").click()
    page.locator("article", has_text="stranger").wait_for(state="detached")


def test_behind_a_proxy_whose_session_is_over_a_reader_is_led_to_its_login(
    browser: Browser, url: str
) -> None:
    with dashboard.gate(url) as gate:
        reader = Reader(browser, gate.url)
        page = reader.open("/")
        # By the filter, which the policy on forms would keep from leaving this server.
        page.get_by_role("searchbox", name="Name").fill(CRM)
        gate.is_open = False
        page.get_by_role("button", name="Show").click()
        page.wait_for_url(f"**/?text={CRM}**")
        assert page.locator("tbody a.name").all_inner_texts() == [CRM]
        # By the page that refreshes itself.
        with page.expect_navigation():
            gate.is_open = False
        assert page.locator("tbody a.name").all_inner_texts() == [CRM]
        assert gate.is_open
        assert reader.complaints == []
        reader.close()


def test_what_the_least_rights_do_not_show_is_reported(
    populated: MeshCluster, browser: Browser, tmp_path: Path
) -> None:
    auditor = command.as_account(populated.plane)
    with dashboard.running(auditor.kubeconfig, tmp_path / "log", *NAMED) as where:
        reader = Reader(browser, where)
        page = reader.open("/denials")
        assert 'cannot list resource "events"' in page.inner_text("main")
        assert "in the selected namespaces" in reader.open("/").inner_text("h1")
        assert reader.open(SHOP).locator("article.pod").count() == 2
        text = reader.open(f"/namespaces/{APPS}").text_content("svg.picture")
        assert "Ingress controller" in (text or "")
        reader.close()
        assert (reader.complaints, reader.strangers) == ([], [])


def test_with_authenticate_the_api_server_says_who_may_read(
    populated: MeshCluster, tmp_path: Path
) -> None:
    plane = populated.plane
    with dashboard.running(
        plane.kubeconfig, tmp_path / "log", *NAMED, "--authenticate", waits=False
    ) as where:
        tokens = {}
        for name, roles in (("reader", ("mendix-mesh-viewer",)), ("passer-by", ())):
            account = command.as_account(plane, *roles, name=name)
            tokens[name] = json.loads(account.kubeconfig.read_text())["users"][0]["user"]["token"]
        assert get(where, "") == 401
        assert get(where, "made-up") == 401
        assert get(where, forged(tokens["reader"])) == 401
        assert get(where, tokens["passer-by"]) == 403
        assert get(where, tokens["reader"]) == 200


def get(where: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(where, headers=headers).status_code


def forged(token: str) -> str:
    """Return the same claims for another user, with the same signature."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "system:serviceaccount:kube-system:default"
    made = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{made}.{signature}"
