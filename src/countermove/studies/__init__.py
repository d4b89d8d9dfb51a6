"""Tables and figures of papers as audit files: one TOML each, at a mini and a paper size."""

from __future__ import annotations

from pathlib import Path


def studies() -> dict[str, Path]:
    """Return all studies by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
