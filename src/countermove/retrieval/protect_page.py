"""A page that shows what queries find before and after they are changed: one file, thumbnails inside."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from countermove.errors import DataError
from countermove.game.spelling import Named, spell
from countermove.pixels.files import OnBroken, read_picture, safe_child, write_atomic
from countermove.pixels.places import PngPlace
from countermove.pixels.published import Line, Published
from countermove.retrieval.protect_surrogates import Surrogates
from countermove.retrieval.search import Found, ImageSearch, check_taught, read_engine
from countermove.retrieval.trained import Watch

PAGE = "results.html"
SHOWN, MOST_QUERIES = 6, 100
_SIDE = 96
_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:2em;color:#222;background:#fff}table{border-collapse:collapse}"
    "td,th{padding:.4em;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}"
    "figure{display:inline-block;margin:0 .3em .3em 0;width:100px;font-size:11px;overflow-wrap:anywhere}"
    "figcaption{color:#555}img{display:block;max-width:96px;max-height:96px}.kept img{outline:3px solid #0072b2}"
)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Where queries are searched for, and by what."""

    folder: Path
    engine: str
    surrogates: Surrogates


def check_compared(folder: Path, out: Path, engine: str | None, surrogates: Surrogates) -> Compared:
    """Return what a page needs; refuse what cannot be searched before anything is computed.

    Raises:
        ConfigError: an engine that is unknown, or must be trained and is not told on what.
        DataError: no folder, or one that holds the output.
    """
    if not folder.is_dir():
        raise DataError(f"--against {folder} is not a folder; name one with pictures to search among")
    if out.resolve().is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(out.resolve()):
        raise DataError(f"--against {folder} and the output {out} lie inside each other; choose a folder beside it")
    if engine is None:
        own = surrogates.names
        engine = spell([Named("neural", {"backbone": own[0]})]) if own else "global"
    spelled, method = read_engine(engine)
    check_taught(spelled, method, taught=surrogates.known is not None)
    return Compared(folder=folder, engine=spelled, surrogates=surrogates)


def write_page(
    compared: Compared,
    source: Path,
    folder: Published,
    there: Mapping[PngPlace, Line],
    *,
    on_broken: OnBroken,
    watch: Watch,
) -> Path:
    """Search with every query, as it was and as it is now, and write the page. It shows the first hundred.

    Raises:
        DataError: when the folder to search holds no picture, or a broken one.
    """
    surrogates = compared.surrogates
    search = ImageSearch.build(
        compared.folder,
        compared.engine,
        collection=surrogates.data,
        seed=surrogates.seed,
        device=surrogates.device,
        longest=surrogates.longest,
        on_broken=on_broken,
        watch=watch,
    )
    shown = list(there)[:MOST_QUERIES]
    rows, kept, listed = [], 0, 0
    for at, place in enumerate(shown):
        watch("searching", at, len(shown))
        pictures = [read_picture(source / place.source), read_picture(safe_child(folder.folder, place.out))]
        before, after = (search.search(picture, k=len(search)) for picture in pictures)
        kept += len({one.path for one in before[:SHOWN]} & {one.path for one in after[:SHOWN]})
        listed += len(before[:SHOWN])
        rows.append(_row(search, place, pictures, before, after))
    watch("searching", len(shown), len(shown))
    of_all = f" The first {len(shown)} of {len(there)} queries are shown." if len(shown) < len(there) else ""
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>What queries find</title>'
        f"<style>{_STYLE}</style><h1>What queries find, before and after</h1>"
        f"<p>{html.escape(surrogates.composition.spelling)} against {html.escape(compared.engine)}, "
        f"{len(search)} pictures. Of the first {SHOWN} results of the untouched queries, {kept} of {listed} are still "
        f"among the first {SHOWN}, framed below.{of_all}</p><table><tr><th>query<th>finds<th>protected query<th>finds"
        f"{''.join(rows)}</table></html>\n"
    )
    write_atomic(folder.folder / PAGE, text.encode())
    return folder.folder / PAGE


def _row(
    search: ImageSearch, place: PngPlace, pictures: list[np.ndarray], before: list[Found], after: list[Found]
) -> str:
    cells = []
    ranks = [{one.path: one.rank for one in found} for found in (before, after)]
    sides = (
        (pictures[0], place.source, before, ranks[1], "after"),
        (pictures[1], place.out, after, ranks[0], "before"),
    )
    for picture, name, found, other, word in sides:
        results = [
            _figure(
                _picture(search, one.path),
                f"{one.rank}. {one.path} ({word}: {other[one.path]})",
                kept=other[one.path] <= SHOWN,
            )
            for one in found[:SHOWN]
        ]
        cells.append(f"<td>{_figure(picture, name)}<td>{''.join(results)}")
    return f"<tr>{''.join(cells)}"


def _picture(search: ImageSearch, name: str) -> np.ndarray:
    return read_picture(safe_child(search.folder, name))


def _figure(picture: np.ndarray, said: str, *, kept: bool = False) -> str:
    small = Image.fromarray(picture)
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    content = base64.b64encode(buffer.getvalue()).decode()
    frame = ' class="kept"' if kept else ""
    return (
        f'<figure{frame}><img alt="{html.escape(said)}" src="data:image/jpeg;base64,{content}">'
        f"<figcaption>{html.escape(said)}</figcaption></figure>"
    )
