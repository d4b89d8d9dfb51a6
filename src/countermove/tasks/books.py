"""Public-domain books as one stream of text, for pre-training a small language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from countermove.errors import DataError
from countermove.game.content import data_folder, fingerprint_files

FOLDER = "books_text"


def book_files(root: Path | None = None) -> list[Path]:
    """Return the Markdown files of books_text/ in the data folder, sorted by author and title.

    Raises:
        DataError: when there are none.
    """
    folder = data_folder(root) / FOLDER
    found = sorted(folder.glob("*/*.md"))
    if not found:
        raise DataError(
            f"there are no books in {folder}: it holds one folder an author, with .md files; see the README"
        )
    return found


def fingerprint(root: Path | None = None, *, rehash: bool = False) -> str:
    """Return SHA-256 over all books."""
    named = [(f"{path.parent.name}/{path.name}", path) for path in book_files(root)]
    return fingerprint_files(named, rehash=rehash)


def paragraphs(root: Path | None = None) -> Iterator[str]:
    """Yield every paragraph of every book on one line; headings are left out.

    Raises:
        DataError: when a book is not UTF-8.
    """
    for path in book_files(root):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise DataError(f"{path} cannot be read as UTF-8 text") from None
        for block in text.split("\n\n"):
            lines = [line.strip() for line in block.splitlines() if not line.lstrip().startswith("#")]
            if paragraph := " ".join(filter(None, lines)):
                yield paragraph
