"""Temporary folders go with their process, or with the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from countermove.game.engines.leftovers import own_folder


def test_what_a_killed_process_left_is_swept_up(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f"mine-{dead.pid}-a", f"mine-{os.getpid()}-b", "mine-c", "other"):
        (tmp_path / name / "session").mkdir(parents=True)
    with own_folder("mine-", str(tmp_path)) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "file").write_text("kept while it is used")
        assert len(list(tmp_path.iterdir())) == 4
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["b", "c", "r"]
