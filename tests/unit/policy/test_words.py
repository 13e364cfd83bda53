"""Numbers, lists and other people's text in sentences."""

from webhook.policy.words import counted, listed, masked, printable, shortened


def test_numbers_of_things() -> None:
    assert [counted(number, "pod") for number in (0, 1, 2_000)] == ["0 pods", "1 pod", "2,000 pods"]


def test_names_beyond_the_most_are_counted() -> None:
    assert listed(["a", "b", "c"], 3) == "a, b, c"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert listed([]) == ""


def test_examples_say_how_many_there_are_in_all() -> None:
    assert listed(["a", "b"], of=2) == "a, b"
    assert listed(["a", "b"], of=1_202) == "a, b and 1,200 more"


def test_a_long_text_is_cut_to_the_most() -> None:
    assert (shortened("abcd", 4), shortened("abcde", 4)) == ("abcd", "abc…")


def test_what_a_terminal_would_obey_is_spelt_out_or_masked() -> None:
    text = "é\x1b[2J\u202e\n"
    assert printable(text) == "é\\x1b[2J\\u202e\\n"
    assert masked(text) == "é?[2J??"
