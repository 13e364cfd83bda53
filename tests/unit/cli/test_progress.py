"""The progress bar of long commands, with the remaining time, and only on a terminal."""

import io
from functools import partial

import pytest
from rich.console import Console

from webhook.cli._progress import bar


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen = io.StringIO()
    console = partial(Console, file=screen, force_terminal=terminal, width=100)
    monkeypatch.setattr("webhook.cli._progress.Console", console)
    with bar("restarting", 3) as advance:
        advance(1, "mendix/[shop]")
    shown = screen.getvalue()
    if terminal:
        assert "mendix/[shop]" in shown
        assert "1/3" in shown
        assert "-:--:--" in shown
    else:
        assert shown == ""
