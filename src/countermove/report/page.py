"""One HTML file that shows a run: no server, no network, nothing outside it.

Hooks for the panels of an arena (`Arena.panels`), besides plain tables, lists and figures:

- ``<div class="gallery" data-sortable>`` with ``<figure class="sample" data-damage="12.3" data-label="cat">`` items
  gets controls that sort by damage (largest first) and by class. In a sample stand several ``<img>`` with ``alt``,
  each alone or in a ``<figure class="frame">`` with its own ``<figcaption>``; a picture that stands alone gets its
  ``alt`` as caption. The sample's ``<figcaption>`` comes last. Pictures are ``data:image/...`` addresses, shown without
  smoothing, and open larger by click or keyboard.
- ``<figure class="spectrum">`` holds an inline ``<svg>`` (styled by attributes and the page's classes) or an ``<img>``.
- ``<table class="sortable">`` sorts by its column heads; ``<td class="n">`` is a number.
- ids begin with ``panel-``. Scripts, styles, event attributes and outside addresses are refused (`inert.py`).
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from countermove.game.arena import Panel
from countermove.game.cheapest import cheapest_breaking
from countermove.game.results import PRICE
from countermove.game.store import RunFolder, write_atomic
from countermove.report import figures, view
from countermove.report.charts import strip
from countermove.report.inert import why_not_inert
from countermove.report.names import NO_NAMES, Names
from countermove.report.numbers import amount_words, interval, number, point, price_words, reply_words
from countermove.report.published import beside, published, size_words
from countermove.report.source import Report, read_report
from countermove.report.tables import count_cells

TEMPLATES = ("layout.html", "template.html", "comparison.html", "macros.html")


def write_page(run: RunFolder) -> Path:
    """Derive report.html of a run anew and return its path.

    Raises:
        RunError: when the run cannot be read or the page not be written.
        ConfigError: when the run's arena is not installed.
    """
    path = run.path / "report.html"
    write_atomic(path, render_page(read_report(run)))
    return path


def write_comparison(reports: Sequence[Report], out: Path) -> Path:
    """Write one page that sets several runs side by side and return its path.

    Raises:
        RunError: when the page cannot be written.
    """
    write_atomic(out, render_comparison(reports))
    return out


def render_page(report: Report) -> str:
    """Return the page of one run. The same run gives the same bytes."""
    results, verdict = report.results, report.verdict
    study, found = results.config.study, published(results, verdict)
    raised = list(dict.fromkeys(flag.code for flag in verdict.flags))
    texts = flag_texts()
    audit = (report.run.path / "audit.toml").read_text(encoding="utf-8")
    header, cells, text_columns = view.cell_table(results)
    return _render(
        "template.html",
        names=Names.of(results),
        report=report,
        results=results,
        verdict=verdict,
        sentences=view.sentences(verdict),
        matrices=view.matrices(results, verdict),
        price_views=figures.price_views(results, verdict),
        cheapest=cheapest_breaking(verdict, results.arena.yardstick),
        curve_views=figures.curve_views(results),
        time_views=figures.time_views(results),
        panels=[safe_panel(panel) for panel in _panels(report)],
        checks=view.checks(results),
        budgets=view.budgets(report),
        flag_texts=[(code, texts.get(code, Markup(""))) for code in raised],
        beside=beside(found),
        not_played=[one for one in found if one.square is None],
        size=size_words(study, results) if study else "",
        counts=count_cells(results),
        header=header,
        cells=cells,
        text_columns=text_columns,
        cast=view.cast(results),
        environments=view.environments(results),
        artifacts=view.artifacts(report),
        audit=audit,
        commands=_commands(report.name),
        prices=[name for name in PRICE if any(name in square.price for square in verdict.matrix)],
    )


def render_comparison(reports: Sequence[Report]) -> str:
    """Return the page that sets several runs side by side."""
    moves = dict.fromkeys((m.data, m.move) for r in reports for m in r.verdict.moves)
    verdicts = [{(m.data, m.move): m for m in r.verdict.moves} for r in reports]
    squares = [{(s.data, s.reply.model, s.move, s.reply.countermove): s for s in r.verdict.matrix} for r in reports]
    return _render(
        "comparison.html",
        reports=reports,
        moves=[(data, move, [found.get((data, move)) for found in verdicts]) for data, move in moves],
        squares=[
            (key, [found.get(key) for found in squares]) for key in dict.fromkeys(key for s in squares for key in s)
        ],
        differences=_differences([report.results.config.model_dump(mode="json") for report in reports]),
        sentences=[view.sentences(report.verdict) for report in reports],
    )


def safe_panel(panel: Panel) -> tuple[Panel, Markup]:
    """Return a panel with its markup, or with a line that says why its markup was left out."""
    fault = why_not_inert(panel.html)
    if fault:
        return panel, Markup('<p class="note">Left out: this panel holds {}.</p>').format(fault)
    return panel, Markup(panel.html)  # noqa: S704 - checked above, and the page's policy runs no script but its own


def _panels(report: Report) -> Sequence[Panel]:
    """Return the arena's panels; a line in their place where what is stored for them is damaged."""
    try:
        return list(report.results.arena.panels(report.run, report.results))
    except Exception as error:  # artifacts may be anybody's, and the numbers are shown without them
        return [Panel(title="Pictures", html="", summary=f"Not shown: {type(error).__name__}: {error}")]


@cache
def flag_texts() -> Mapping[str, Markup]:
    """Return the paragraphs of flags.md by code."""
    _, *sections = re.split(r"^## ", _resource("flags.md"), flags=re.MULTILINE)
    found = {}
    for section in sections:
        code, body = section.split("\n", 1)
        paragraphs = [p.replace("\n", " ") for p in body.strip().split("\n\n")]
        found[code.strip()] = Markup("").join(Markup("<p>{}</p>").format(_marked(p)) for p in paragraphs)
    return found


def page_policy() -> str:
    """Return the content security policy: our own style sheet and script by their hashes, pictures as data, no more."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{_sha256(_resource('page.css'))}'; script-src 'sha256-{_sha256(_resource('page.js'))}'"
    )


def _render(name: str, *, names: Names = NO_NAMES, **values: Any) -> str:
    environment = Environment(
        loader=DictLoader({template: _resource(template) for template in TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=number, interval=interval, point=point, breakable=_breakable)
    environment.filters.update(named=names.words, prose=names.prose, shown=partial(_shown, names=names))
    environment.globals.update(price_words=price_words, amount_words=amount_words, reply_words=reply_words, strip=strip)
    css, script = Markup(_resource("page.css")), Markup(_resource("page.js"))  # noqa: S704 - our own files
    return environment.get_template(name).render(**values, names=names, css=css, script=script, policy=page_policy())


def _shown(text: str, *, names: Names) -> Markup:
    """Return a study's name with what it stands for, or a spelling that can be broken."""
    name = names.words(text)
    return _breakable(text) if name == text else Markup('<span title="{}">{}</span>').format(text, name)


def _breakable(name: str) -> Markup:
    """Let a browser break a long spelling between its parts."""
    return Markup(re.sub(r"([(+=_])", r"<wbr>\1", str(escape(name))))  # noqa: S704 - escaped before it is broken


def _marked(text: str) -> Markup:
    """Turn the `code` and *stress* of our own paragraphs into markup."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html))  # noqa: S704 - escaped one line above


def _commands(name: str) -> list[str]:
    folder = shlex.quote(f"runs/{name}")
    return [f"countermove audit audit.toml --out {folder}", f"countermove report {folder}"]


def _differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    flat = [dict(_flatten(config, "")) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    rows = [(key, [config.get(key, "") for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flatten(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [item for k, v in value.items() for item in _flatten(v, f"{path}.{k}" if path else str(k))]
    text = ", ".join(str(v) for v in value) if isinstance(value, (list, tuple)) else "" if value is None else str(value)
    return [(path, text)]


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _resource(name: str) -> str:
    return files("countermove.report").joinpath(name).read_text(encoding="utf-8")
