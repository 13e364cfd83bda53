"""Debian's chromium, driven by playwright. It records what pages must not do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.requirements import not_run

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DESK, PHONE = (1280, 860), (360, 740)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser until the block ends."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        not_run("there is no chromium; install Debian's package of that name")
    with sync_playwright() as playwright:
        # The sandbox does not run as root. There is no GPU.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Reader:
    """A reader with a browser, on the pages of one server."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        dark: bool = False,
        size: tuple[int, int] = DESK,
        scripts: bool = True,
        calm: bool = False,
    ) -> None:
        self.url = url.rstrip("/")
        #: Console messages except debug messages, and requests to other servers.
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._context = browser.new_context(
            viewport=ViewportSize(width=size[0], height=size[1]),
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            reduced_motion="reduce" if calm else "no-preference",
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda said: self._noted(said.type, said.text))
        self.page.on("pageerror", lambda error: self._noted("error", str(error)))
        self._context.on("request", lambda request: self._open(request.url))

    def open(self, path: str) -> Page:
        """Open a page."""
        answer = self.page.goto(f"{self.url}{path}")
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        return self.page

    def close(self) -> None:
        """Close the browser's context."""
        self._context.close()

    @property
    def overflows(self) -> bool:
        """Return whether the page is wider than the window."""
        wider: bool = self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return wider

    def _noted(self, kind: str, text: str) -> None:
        if kind not in ("debug", "info", "log"):
            self.complaints.append(f"{self.page.url}: {kind}: {text}")

    def _open(self, url: str) -> None:
        if url.startswith("data:"):
            return
        if urlsplit(url)[:2] != urlsplit(self.url)[:2]:
            self.strangers.append(url)
