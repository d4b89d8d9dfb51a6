from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from coin_runs import HOSTILE, Page, played

from countermove.errors import RunError
from countermove.game.arena import Panel
from countermove.game.results import load_results, write_results
from countermove.game.store import RunFolder
from countermove.report.inert import why_not_inert
from countermove.report.page import flag_texts, render_comparison, render_page, safe_panel, write_comparison, write_page
from countermove.report.source import Report, measured_budgets, read_reports

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render_page(report)


@pytest.fixture(scope="module")
def poor(poor_report: Report) -> str:
    return render_page(poor_report)


@pytest.fixture(scope="module")
def both(report: Report, poor_report: Report) -> str:
    return render_comparison([report, poor_report])


@pytest.mark.parametrize("name", ["html", "poor"])
def test_the_table_of_cells_is_results_csv(
    name: str, run: RunFolder, poor_run: RunFolder, request: pytest.FixtureRequest
) -> None:
    written = write_results(run if name == "html" else poor_run).read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(written)))
    shown = Page(request.getfixturevalue(name)).tables["cell-table"]
    assert len(rows) > 30
    assert shown == rows


@pytest.mark.parametrize("name", ["html", "poor", "both"])
def test_policy_lets_in_exactly_what_is_there(name: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(name))
    content = next(
        attrs["content"] or ""
        for tag, attrs in page.elements
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    rules = {rule.split()[0]: rule.split()[1:] for rule in content.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    for tag in ("style", "script"):
        (text,) = page.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == [f"'sha256-{digest}'"]
    for _, attribute, value in page.attributes():
        assert attribute != "style"
        assert not attribute.startswith("on")
        if attribute in {"src", "href"}:
            assert value.startswith(("#", "data:"))


@pytest.mark.parametrize("name", ["html", "poor", "both"])
def test_page_is_well_formed_and_navigable(name: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(name))
    assert page.left_open == []
    ids = [value for _, attribute, value in page.attributes() if attribute == "id"]
    assert len(ids) == len(set(ids))
    links = [value[1:] for tag, attribute, value in page.attributes() if (tag, attribute) == ("a", "href")]
    assert len(links) >= 4
    assert set(links) <= set(ids)
    assert {tag for tag, _ in page.elements} >= {"main", "nav", "header", "footer", "h1"}
    heads = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert heads[0] == 1
    assert heads.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(heads))
    assert page.texts["table"]
    assert len(page.texts["caption"]) == len(page.texts["table"])
    assert all(attrs.get("scope") for tag, attrs in page.elements if tag == "th")
    assert all(attrs.get("alt") is not None for tag, attrs in page.elements if tag == "img")
    for tag, attrs in page.elements:
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"


def test_hostile_text_is_shown_and_not_obeyed(poor: str) -> None:
    page = Page(poor)
    assert len(page.texts["script"]) == 1
    assert not [tag for tag, attrs in page.elements if tag == "img" and attrs.get("src") == "x"]
    shown = "".join(page.texts["main"])
    assert shown.count(HOSTILE) >= 5  # study twice, published, error, traceback, environment


def test_verdict_stands_on_top_with_its_numbers(report: Report, html: str) -> None:
    page = Page(html)
    lead = next(text for text in page.texts["p"] if "of its aim is left" in text)
    assert " ".join(lead.split()) == report.verdict.sentence
    main = "".join(page.texts["main"])
    assert main.index("of its aim is left") < main.index("Moves and replies")
    for move in report.verdict.moves:
        assert move.value is not None
        assert f"{move.value.point:.2f} [{move.value.low:.2f}, {move.value.high:.2f}]" in main


def test_heat_map_colours_by_payoff_and_says_the_number(report: Report, html: str) -> None:
    squares = [s for s in report.verdict.matrix if s.payoff is not None]
    drawn = re.findall(r'<td class="h(\d+)( best)?"><span class="num">([-.\d]+)', html)
    assert len(drawn) == len(squares) > 0
    for level, _, number in drawn:
        assert abs(int(level) / 10 - min(max(float(number), 0), 1)) <= 0.06
    assert sum(bool(best) for _, best, _ in drawn) == len(report.verdict.moves)


def test_flags_link_to_their_paragraphs(poor: str) -> None:
    page = Page(poor)
    links = {value for tag, attribute, value in page.attributes() if (tag, attribute) == ("a", "href")}
    assert {"#flag-few-seeds", "#flag-incomplete"} <= links
    assert "fewer than three seeds" in " ".join(page.texts["div"])


def test_every_flag_of_the_game_has_a_paragraph_and_the_docs_have_the_same() -> None:
    source = (REPOSITORY / "src/countermove/game/flags.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'Flag\(\s*"([a-z-]+)"', source))
    assert len(codes) >= 6
    assert codes <= set(flag_texts())
    inside = (REPOSITORY / "src/countermove/report/flags.md").read_text(encoding="utf-8")
    assert (REPOSITORY / "docs/flags.md").read_text(encoding="utf-8") == inside


def test_failed_cells_are_listed_with_their_errors(poor: str, poor_report: Report) -> None:
    page = Page(poor)
    failed = poor_report.results.unfinished
    assert len(failed) > 5
    summaries = [text for text in page.texts["summary"] if "failed" in text]
    assert len(summaries) == len(failed)
    assert "told to fail" in "".join(page.texts["details"])


def test_published_numbers_stand_beside_ours(poor: str, poor_report: Report) -> None:
    assert "Mini-scale numbers are not the paper's numbers" in Page(poor).texts["main"][0]
    (rows,) = (rows for caption, rows in captioned(poor) if caption.startswith("Accuracy: published / ours"))
    squares = (s for s in poor_report.verdict.matrix if s.move == "loaded")
    means = {(s.data, s.reply.model, s.reply.countermove): f"{s.metric:.3f}" for s in squares}
    assert rows[0] == ["Move", "Data here", "Model here", "none", "scale"]
    assert rows[1:] == [
        ["loaded", data, model, f"0.19 / {means[data, model, 'none']}", f"0.81 / {means[data, model, 'scale']}"]
        for data in poor_report.results.axis("data")
        for model in poor_report.results.axis("model")
    ]


def test_the_size_is_named_where_numbers_are_compared(poor: str) -> None:
    size = "size mini: purse(size=60), purse(part=0.5, size=80), thumb, machine, 2 seeds"
    captions = [caption for caption, _ in captioned(poor) if "published / ours" in caption]
    assert captions == [f"Accuracy: published / ours ({size})", f"Payoff: published / ours ({size})"]


def test_published_numbers_without_a_square_are_not_hidden(poor: str) -> None:
    (rows,) = (rows for caption, rows in captioned(poor) if caption == "Published, not played in this run")
    assert rows[1:] == [[f"{HOSTILE} / none", "accuracy", "0.5"]]


def captioned(html: str) -> list[tuple[str, list[list[str]]]]:
    """Return the tables of a page with their captions."""
    page = Page(html)
    return list(zip(page.texts["caption"], page.tables.values(), strict=True))


def test_the_same_run_gives_the_same_bytes(run: RunFolder, html: str) -> None:
    assert write_page(run).read_text(encoding="utf-8") == html


def test_an_unplayed_run_has_a_page(tmp_path: Path) -> None:
    run = played(tmp_path / "none", training={"fail": "thumb"})
    text = Page(write_page(run).read_text(encoding="utf-8")).texts["main"][0]
    assert "Inconclusive." in text
    assert "Cells that did not finish" in text


def test_comparison_names_both_runs_and_what_differs(both: str) -> None:
    page = Page(both)
    heads = [row for table in page.tables.values() for row in table[:1]]
    assert ["Entry", "well", "poor"] in heads
    assert any(row[:1] == ["seeds"] and row[1:] == ["0, 1, 2", "0, 1"] for t in page.tables.values() for row in t)
    assert "not played" in page.texts["main"][0]


def test_comparison_refuses_the_same_run_twice_and_tells_namesakes_apart(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="named twice"):
        read_reports([run.path, run.path])
    namesake = played(tmp_path / run.path.name, moves=["loaded"], countermoves=["scale"], seeds=[0])
    reports = read_reports([run.path, namesake.path])
    assert [report.name for report in reports] == [str(run.path.resolve()), str(namesake.path.resolve())]
    out = write_comparison(reports, tmp_path / "both.html")
    assert str(namesake.path) in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        '<p style="color: red">a</p>',
        '<p onclick="a()">a</p>',
        '<img src="https://example.org/a.png" alt="">',
        '<a href="javascript:alert(1)">a</a>',
        "<style>p {}</style>",
        '<iframe srcdoc="a"></iframe>',
        "<svg><foreignObject></foreignObject></svg>",
        '<p id="main">a</p>',
        "<!doctype html>",
    ],
)
def test_panels_that_could_do_something_are_left_out(html: str) -> None:
    _, shown = safe_panel(Panel(title="a", html=html))
    assert "Left out" in shown
    assert html not in shown


def test_panels_that_show_something_are_kept() -> None:
    html = (
        '<div class="gallery" data-sortable><figure class="sample" data-damage="1.5" data-label="a">'
        '<img src="data:image/png;base64,AA==" alt="original"><figcaption>a &lt; b</figcaption></figure></div>'
        '<svg viewBox="0 0 1 1"><clipPath id="panel-a"><rect width="1"/></clipPath><path fill="red" d="M0 0"/></svg>'
    )
    assert why_not_inert(html) == ""
    assert safe_panel(Panel(title="a", html=html))[1] == html


def test_budgets_are_read_from_the_moves_manifests_and_shown(tmp_path: Path) -> None:
    run = played(
        tmp_path / "budgets", moves=["loaded", "shaved", "loaded+shaved"], countermoves=["scale"], seeds=[0, 1]
    )
    labels = {"move loaded on": True, "move shaved on": False}
    for path in run.artifacts.glob("*/manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for label, kept in labels.items():
            if manifest["label"].startswith(label):
                kept = kept or manifest["label"].endswith("seed 0")
                budget = {
                    "norm": "linf",
                    "radius": 8 / 255,
                    "largest": 0.03 if kept else 0.07,
                    "mean": 0.01,
                    "kept": kept,
                }
                path.write_text(json.dumps({**manifest, "facts": {"budget": budget}}), encoding="utf-8")
    assert measured_budgets(run, load_results(run)) == {"loaded": True, "shaved": False}
    page = Page(write_page(run).read_text(encoding="utf-8"))
    assert "#flag-budget-broken" in [value for _, attribute, value in page.attributes() if attribute == "href"]
    table = next(table for table in page.tables.values() if "Largest change" in table[0])
    assert table[1:] == [
        ["loaded", "linf", "8/255", "0.0300", "kept"],
        ["shaved", "linf", "8/255", "0.0700", "broken"],
    ]


def test_reports_need_no_torch() -> None:
    code = (
        "import sys, countermove.report.page, countermove.report.serve, countermove.report.text; "
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
