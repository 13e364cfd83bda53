"""Lists of ports, as people write them and as proxy-init reads them."""

import pytest

from webhook.policy.pod import ports

ALLOWED = ((4567, 4568), (4190, 4191), (4192, 4200))


@pytest.mark.parametrize(
    ("text", "ranges", "odd"),
    [
        ("", [], []),
        (" , ,", [], []),
        ("25", [(25, 25)], []),
        ("25, 8080-8090 ", [(25, 25), (8080, 8090)], []),
        ("8080 - 8090", [(8080, 8090)], []),
        ("http", [], ["http"]),
        ("8090-8080", [], ["8090-8080"]),
        ("-25", [], ["-25"]),
        ("25-", [], ["25-"]),
        ("1-2-3", [], ["1-2-3"]),
        ("٢٥", [], ["٢٥"]),  # decimals that are not ASCII
        ("0x19", [], ["0x19"]),
        ("9" * 5000, [], ["9" * 5000]),
    ],
)
def test_a_list_is_split_into_ranges_and_invalid_parts(
    text: str, ranges: list[tuple[int, int]], odd: list[str]
) -> None:
    assert ports.parse(text) == (tuple(ranges), odd)


@pytest.mark.parametrize(
    ("text", "beyond"),
    [
        ("", []),
        ("4567", []),
        ("4567-4568,4190", []),
        ("4190-4200", []),  # two allowed ranges that touch
        ("4566-4568", ["4566-4568"]),
        ("4568-4569", ["4568-4569"]),
        ("25,4567,http", ["25", "http"]),
        ("1-65535", ["1-65535"]),
    ],
)
def test_what_reaches_past_the_allowed_ranges_is_reported(text: str, beyond: list[str]) -> None:
    assert ports.beyond(text, ALLOWED) == tuple(beyond)


def test_nothing_is_allowed_by_no_ranges() -> None:
    assert ports.beyond("25", ()) == ("25",)
