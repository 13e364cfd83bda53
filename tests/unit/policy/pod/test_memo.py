"""The cache of results for repeated texts."""

from webhook.policy.pod.memo import remembered


def test_a_text_is_looked_at_once_for_each_rest() -> None:
    calls = []

    @remembered
    def length(text: str, more: int) -> int:
        calls.append(text)
        return len(text) + more

    assert [length("ab", 1), length("ab", 1), length("ab", 2), length("abc", 1)] == [3, 3, 4, 4]
    assert calls == ["ab", "ab", "abc"]


def test_neither_many_nor_long_texts_are_kept() -> None:
    calls = 0

    @remembered
    def same(text: str) -> str:
        nonlocal calls
        calls += 1
        return text

    for _ in range(2):
        same("x" * 1000)
    assert calls == 2
    for number in range(2000):
        same(str(number))
    same("0")
    assert calls == 2003
