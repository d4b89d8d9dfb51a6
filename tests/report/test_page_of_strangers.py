"""A run of somebody else on the page: its texts are shown, its files stay where they are, and nothing of it runs."""

from __future__ import annotations

import json
import shutil
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from coin_runs import HOSTILE, Page
from test_serve import ask, server  # noqa: F401 - a fixture

from countermove.errors import RunError
from countermove.game.arena import arena_class
from countermove.game.store import RunFolder
from countermove.report.inert import why_not_inert
from countermove.report.page import page_policy, write_page
from countermove.report.serve import make_server

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"

STRICT = {
    "default-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'none'"],
    "frame-ancestors": ["'none'"],
    "img-src": ["data:"],
}


@pytest.fixture
def theirs(run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of a run, to be spoilt."""
    shutil.copytree(run.path, tmp_path / "theirs")
    return RunFolder(tmp_path / "theirs")


def a_cell(run: RunFolder) -> tuple[Path, dict[str, Any]]:
    record = next(r for r in run.records() if r["status"] == "ok" and r["needs"])
    return run.cells / f"{record['key']}.json", record


@pytest.mark.parametrize(
    ("path", "method"), [("/", "GET"), ("/", "HEAD"), ("/no", "GET"), ("/", "POST"), ("/", "TRACE")]
)
def test_every_answer_carries_the_strict_policy(
    server: ThreadingHTTPServer,  # noqa: F811
    path: str,
    method: str,
) -> None:
    response, _ = ask(server, path, method=method)
    rules = {
        rule.split()[0]: rule.split()[1:] for rule in (response.getheader("Content-Security-Policy") or "").split(";")
    }
    assert {name: rules.get(name) for name in STRICT} == STRICT
    assert set(rules) == {*STRICT, "script-src", "style-src"}
    for kind in ("script-src", "style-src"):
        assert [source[:8] for source in rules[kind]] == ["'sha256-"]
    for name, value in {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }.items():
        assert response.getheader(name) == value
    assert response.getheader("Server", "").strip() == "countermove"


def test_the_policy_lets_nothing_unsafe_in() -> None:
    assert not [word for word in ("unsafe", "*", "http", "blob", "'self'") if word in page_policy()]


@pytest.mark.parametrize(
    "host", ["127.0.0.1.:{}", "user@127.0.0.1:{}", "127.0.0.1:{}.evil.example", "[::1]:{}", "0:{}"]
)
def test_another_spelling_of_this_machine_is_refused(server: ThreadingHTTPServer, host: str) -> None:  # noqa: F811
    response, body = ask(server, "/", hosts=(host.format(server.server_port),))
    assert response.status == 421
    assert b"Moves and replies" not in body


def test_the_server_listens_on_loopback_alone(server: ThreadingHTTPServer) -> None:  # noqa: F811
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_link_in_place_of_the_page_is_replaced_and_not_followed(theirs: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("private")
    (theirs.path / "report.html").unlink(missing_ok=True)
    (theirs.path / "report.html").symlink_to(tmp_path / "diary")
    with make_server(theirs.path):
        pass
    assert (tmp_path / "diary").read_text() == "private"
    assert not (theirs.path / "report.html").is_symlink()


def test_names_of_a_stranger_are_shown_and_not_obeyed(theirs: RunFolder) -> None:
    path, record = a_cell(theirs)
    record["setting"]["model"] = HOSTILE
    record |= {"metrics": {**record["metrics"], HOSTILE: 0.5}, "curves": {HOSTILE: [0.1, 0.2]}}
    record["tables"] = {HOSTILE: [[1]]}
    path.write_text(json.dumps(record))
    plan = json.loads((theirs.path / "plan.json").read_text())
    for cell in plan["cells"]:
        if cell["setting"]["move"] != "none":
            cell["setting"]["move"] += f"+x(y='{MARKUP}')"
    (theirs.path / "plan.json").write_text(json.dumps(plan))
    page = Page(write_page(theirs).read_text(encoding="utf-8"))
    assert len(page.texts["script"]) == 1
    assert not [tag for tag, attrs in page.elements if tag == "img" and attrs.get("src") == "x"]
    assert not [name for _, name, _ in page.attributes() if name.startswith("on")]
    shown = "".join(page.texts["main"])
    assert HOSTILE in shown
    assert shown.count(MARKUP) > 20


def test_an_artifact_outside_the_run_is_not_read(theirs: RunFolder, tmp_path: Path) -> None:
    (key,) = {record["needs"]["move"] for _, record in [a_cell(theirs)]}
    outside = tmp_path / "outside"
    shutil.move(theirs.artifacts / key, outside)
    with pytest.raises(RunError, match="no readable manifest"):
        theirs.artifact("../../outside")
    assert not theirs.has_artifact("../../outside")
    (theirs.artifacts / key).symlink_to(outside)
    with pytest.raises(RunError, match="leads out of"):
        theirs.artifact(key)
    (theirs.artifacts / key).unlink()
    shutil.copytree(outside, theirs.artifacts / key)
    assert theirs.artifact(key) == theirs.artifacts / key
    (theirs.artifacts / key / "coins.bin").unlink()
    (theirs.artifacts / key / "coins.bin").symlink_to(outside / "coins.bin")
    with pytest.raises(RunError, match="leads out of"):
        theirs.artifact(key)


def test_panels_of_damaged_files_leave_a_line_and_the_rest_of_the_page(
    theirs: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: Any) -> Any:
        raise KeyError(HOSTILE)

    monkeypatch.setattr(arena_class("coin"), "panels", damaged)
    page = Page(write_page(theirs).read_text(encoding="utf-8"))
    shown = "".join(page.texts["main"])
    assert "Not shown: KeyError" in shown
    assert "Moves and replies" in shown
    assert len(page.texts["script"]) == 1


@pytest.mark.parametrize(
    "markup",
    [
        "<!--><b onclick=x>-->",
        "<p>a<!-- b --></p>",
        "<p>before</p><img src='x",
        "a < b",
        "<p",
        "<",
        "<p><![CDATA[x]]></p>",
        "<svg><![CDATA[<script>]]></svg>",
        "<a href='java\nscript:x'>",
        "<a href=' https://evil.example'>",
        "<use xlink:href='https://evil.example#a'/>",
        "<meta http-equiv='refresh' content='0;url=https://evil.example'>",
        "<noscript><p title='</noscript><img src=x onerror=x>'>",
        "<textarea><script>x</script>",
        "<math><mi>",
    ],
)
def test_markup_that_browsers_read_otherwise_is_refused(markup: str) -> None:
    assert why_not_inert(markup)


def test_markup_with_its_signs_written_out_is_let_through() -> None:
    assert not why_not_inert("<p title='1 &lt; 2'>1 &lt; 2 &amp; 3 &#60; 4</p><hr/>")
