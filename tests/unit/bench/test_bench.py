"""The pods of the benchmark, and the page that it writes."""

import pytest

from tests.bench import page, plots, pods, results
from tests.cluster import scale
from tests.unit.admission.reviews import accepted, patch_of
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings

REVIEWER = Reviewer(Settings(), Metrics("test"))


@pytest.mark.parametrize("size", pods.SIZES)
def test_every_pod_is_patched_and_then_admitted(size: str) -> None:
    bodies = pods.bodies(size)
    answer = REVIEWER.answer(REVIEWER.routes["/mutate/linkerd"], bodies.plain)
    assert "'enabled'" in str(patch_of(accepted(answer, pods.UID, validating=False)))
    answer = REVIEWER.answer(REVIEWER.routes["/validate/linkerd/enforce"], bodies.stored)
    assert accepted(answer, pods.UID, validating=True)["allowed"]


def test_the_page_is_current_with_the_raw_results() -> None:
    text = page.PAGE.read_text()
    found = results.read()
    assert page.filled(text, found) == text, "run: python -m tests.bench --page"
    assert [name for name in page.tables(found) if f"<!-- table: {name} -->" not in text] == []
    for name, plot in plots.plots(found, scale.read()).items():
        assert (plots.FOLDER / name).read_text() == plots.drawn(plot)
        assert f"(img/{name})" in text


def test_a_target_that_one_number_of_connections_misses_is_missed() -> None:
    target = page.limited("CPU", {1: 0.2, 8: 0.3}, most=0.25)
    assert (target.met, target.measured) == (False, "0.20 · 0.30 at c=1 · 8")
    assert page.limited("pods", {8: 0.9}, least=0.9).met


def test_the_raw_results_do_not_name_the_machine() -> None:
    assert set(results.read().machine) == {"CPU", "cores", "kernel"}
