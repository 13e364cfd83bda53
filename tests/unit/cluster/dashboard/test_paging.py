"""Long lists, a page at a time."""

import pytest

from webhook.cluster.dashboard.paging import paged


def test_every_item_is_on_one_page() -> None:
    found = [paged(range(101), str(page)).items for page in (1, 2, 3)]
    assert [item for items in found for item in items] == list(range(101))
    assert paged(range(101), "1").pages == 3


@pytest.mark.parametrize(
    ("requested", "page"),
    [("", 1), ("0", 1), ("-1", 1), ("99", 3), ("2", 2), ("x", 1), ("٢", 1), ("9" * 5000, 1)],
)
def test_a_page_that_there_is_not_is_the_nearest_or_the_first(requested: str, page: int) -> None:
    assert paged(range(101), requested).page == page


def test_of_nothing_there_is_one_empty_page() -> None:
    assert paged([], "1") == ([], 1, 1, 0)
