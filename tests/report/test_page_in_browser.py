from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from countermove.game.arena import Panel
from countermove.game.store import RunFolder
from countermove.report.page import page_policy, write_comparison, write_page
from countermove.report.serve import address_of, make_server
from countermove.report.source import read_reports

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("needs Chromium (Debian's package chromium), which is not installed")
    return found


def browse(chromium: str, address: str, profile: Path, *options: str) -> tuple[str, list[str]]:
    """Load a page; return its document as it stands after its script ran, and what the console said."""
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=3000",
        *options,
        address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def gallery(self: object, run: object, results: object) -> Sequence[Panel]:
    """Three samples of two pictures each."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(buffer, "png")
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    samples = "".join(
        f'<figure class="sample" data-damage="{damage}" data-label="{label}">'
        f'<img src="{source}" alt="original"><img src="{source}" alt="moved"><figcaption>{label}</figcaption></figure>'
        for damage, label in ((2.5, "dog"), (10.0, "cat"), (0.5, "ship"))
    )
    return [Panel(title="Pictures", html=f'<div class="gallery" data-sortable>{samples}</div>')]


@pytest.fixture
def page(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("coin_arena.Coin.panels", gallery)
    return write_page(run)


def test_pages_load_without_a_word_on_the_console(
    chromium: str, page: Path, run: RunFolder, poor_run: RunFolder, tmp_path: Path
) -> None:
    both = write_comparison(read_reports([run.path, poor_run.path]), tmp_path / "both.html")
    for path in (page, write_page(poor_run), both):
        document, console = browse(chromium, path.as_uri(), tmp_path / "profile", "--dump-dom")
        assert 'data-ready="true"' in document
        assert console == []


def test_a_breach_of_the_policy_would_be_heard(chromium: str, page: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    text = page.read_text(encoding="utf-8").replace("<h1 ", '<h1 style="color: red" onclick="a()" ', 1)
    bad.write_text(text, encoding="utf-8")
    _, console = browse(chromium, bad.as_uri(), tmp_path / "profile", "--dump-dom")
    assert any("Content Security Policy" in line for line in console)


def test_the_served_page_loads_without_a_word(chromium: str, run: RunFolder, page: Path, tmp_path: Path) -> None:
    with make_server(run.path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            document, console = browse(chromium, address_of(server), tmp_path / "profile", "--dump-dom")
        finally:
            server.shutdown()
            thread.join()
    assert 'data-ready="true"' in document
    assert console == []


ACTIONS = """
const said = {};
const one = (selector) => document.querySelector(selector);
const texts = (selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent.trim());
const change = (element, value) => {
  element.value = value;
  element.dispatchEvent(new Event(element.matches("input") ? "input" : "change"));
};
const column = [...one("#cell-table thead tr").cells].findIndex((c) => c.textContent === "payoff");
const payoffs = () => [...one("#cell-table").tBodies[0].rows].map((r) => r.cells[column].textContent);
const head = one("#cell-table thead tr").cells[column];
head.querySelector("button").click();
said.up = payoffs();
said.ariaUp = head.getAttribute("aria-sort");
head.querySelector("button").click();
said.down = payoffs();
said.ariaDown = head.getAttribute("aria-sort");
change(one("#filter"), "SHAVED blindfold");
said.filtered = [...one("#cell-table").tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.textContent);
said.count = one("#filter-count").textContent;
const visible = (name) => [...document.querySelectorAll(`[data-pane=${name}]`)]
  .filter((p) => getComputedStyle(p).display !== "none").map((p) => p.dataset.value);
change(one("#pick-price"), "samples");
said.price = visible("price");
change(one("#pick-curves"), "3");
said.curves = visible("curves");
change(one("#gallery-order-0"), "largest damage first");
said.damage = texts(".sample > figcaption");
change(one("#gallery-order-0"), "class");
said.label = texts(".sample > figcaption");
said.captions = texts(".frame figcaption").slice(0, 2);
said.rendering = getComputedStyle(one(".sample img")).imageRendering;
one(".zoomer").click();
said.open = one("#zoom").open;
said.zoom = [one("#zoom-caption").textContent];
one("#zoom").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
said.zoom.push(one("#zoom-caption").textContent);
one("#zoom-close").click();
said.closed = !one("#zoom").open;
one("#theme").click();
said.theme = document.documentElement.dataset.theme;
document.body.append(Object.assign(document.createElement("pre"), { id: "said", textContent: JSON.stringify(said) }));
"""


def test_controls_do_what_they_say(chromium: str, page: Path, tmp_path: Path) -> None:
    import html
    import json

    opened = page.read_text(encoding="utf-8").replace(
        page_policy().replace("'", "&#39;"), "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:", 1
    )
    driven = tmp_path / "driven.html"
    driven.write_text(opened.replace("</body>", f"<script>{ACTIONS}</script></body>"), encoding="utf-8")
    document, console = browse(chromium, driven.as_uri(), tmp_path / "profile", "--dump-dom")
    assert console == []
    found = re.search(r'<pre id="said">(.*?)</pre>', document, re.DOTALL)
    assert found is not None
    said = json.loads(html.unescape(found[1]))
    up = [float(value) for value in said["up"] if value]
    assert up == sorted(up)
    assert said["up"][len(up) :] == [""] * (len(said["up"]) - len(up))
    assert [float(value) for value in said["down"] if value] == sorted(up, reverse=True)
    assert said["down"][: len(up)] != said["up"][: len(up)]
    assert (said["ariaUp"], said["ariaDown"]) == ("ascending", "descending")
    assert len(said["filtered"]) == 6
    assert all("shaved" in text and "blindfold" in text for text in said["filtered"])
    assert said["count"].startswith("6 of ")
    assert said["price"] == ["samples"]
    assert said["curves"] == ["3"]
    assert said["damage"] == ["cat", "dog", "ship"]
    assert said["label"] == ["cat", "dog", "ship"]
    assert said["captions"] == ["original", "moved"]
    assert said["rendering"] == "pixelated"
    assert said["open"] is True
    assert said["zoom"] == ["original · cat", "moved · cat"]
    assert said["closed"] is True
    assert said["theme"] == "light"


def test_light_and_dark_are_light_and_dark(chromium: str, page: Path, tmp_path: Path) -> None:
    brightness = {}
    for theme in ("light", "dark"):
        shot = tmp_path / f"{theme}.png"
        options = (f"--screenshot={shot}", "--window-size=900,700", "--hide-scrollbars")
        browse(chromium, f"{page.as_uri()}?theme={theme}", tmp_path / "profile", *options)
        with Image.open(shot) as picture:
            gray = picture.convert("L")
        values = gray.histogram()
        brightness[theme] = sum(i * n for i, n in enumerate(values)) / sum(values)
        low, high = gray.getextrema()
        assert isinstance(low, int)
        assert isinstance(high, int)
        assert high - low > 150
    assert brightness["light"] > 220
    assert brightness["dark"] < 60


def test_a_narrow_window_does_not_scroll_sideways(chromium: str, page: Path, tmp_path: Path) -> None:
    probe = "document.title = `${document.documentElement.scrollWidth} ${innerWidth}`;"
    opened = page.read_text(encoding="utf-8").replace(page_policy().replace("'", "&#39;"), "img-src data:", 1)
    narrow = tmp_path / "narrow.html"
    narrow.write_text(opened.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    document, _ = browse(chromium, narrow.as_uri(), tmp_path / "profile", "--dump-dom", "--window-size=500,900")
    found = re.search(r"<title>(\d+) (\d+)</title>", document)
    assert found is not None
    assert int(found[1]) <= int(found[2])
