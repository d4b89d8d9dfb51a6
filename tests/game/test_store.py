"""The run folder: files appear whole or not at all, and nothing half-written or foreign is ever believed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coin_audits import audit, files, play_in

from countermove.errors import ConfigError, RunError
from countermove.game.cell import Cost, Crafted, Task
from countermove.game.store import FORMAT, RunFolder, write_atomic

TASK = Task("move", "a move", {"x": 1})
Breaker = Callable[[int], None]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run folder that was begun."""
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.write_config(audit())
    return folder


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def broken(monkeypatch: pytest.MonkeyPatch, where: str, code: int) -> None:
    """Let one call of the operating system fail from now on."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    owner, name = {
        "create": (tempfile, "NamedTemporaryFile"),
        "fsync": (os, "fsync"),
        "rename": (Path, "replace"),
        "mode": (Path, "chmod"),
    }[where]
    monkeypatch.setattr(owner, name, fail)


def test_a_file_is_written_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two\xff")
    assert path.read_bytes() == b"two\xff"
    assert listed(tmp_path) == {"a.txt"}
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("where", ["create", "fsync", "rename", "mode"])
@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Free some space and run the same command again"),
        (errno.EDQUOT, "Free some space"),
        (errno.EROFS, "Choose an --out that you may write to"),
        (errno.EACCES, "Choose an --out that you may write to"),
        (errno.EIO, "Check the folder"),
    ],
)
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int, advice: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    broken(monkeypatch, where, code)
    with pytest.raises(RunError, match=advice) as caught:
        write_atomic(path, "new")
    assert f"cannot write {path}: {os.strerror(code)}" in str(caught.value)
    assert path.read_text() == "old"
    assert listed(tmp_path) == {"a.txt"}


def test_a_killed_write_leaves_the_old_content(tmp_path: Path) -> None:
    """The process dies between the temporary file and its new name."""
    (tmp_path / "a.txt").write_text("old")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from countermove.game.store import write_atomic\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "write_atomic(Path(sys.argv[1]), 'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a.txt"], check=False)
    assert done.returncode == 9
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.glob(".tmp-*"))) == 1


def test_leftovers_are_swept_when_the_folder_is_locked(run: RunFolder) -> None:
    (run.cells / ".tmp-abc").write_text("half")
    (run.artifacts / ".tmp-def").mkdir()
    (run.artifacts / ".tmp-def" / "coins.bin").write_text("half")
    (run.path / ".tmp-ghi").write_text("half")
    run.write_cell("k", {"format": FORMAT, "key": "k"})
    with run.locked():
        assert not [name for name in listed(run.path) if ".tmp-" in name]
        assert run.read_cell("k") is not None


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and no run folder; choose another --out"):
        play_in(tmp_path)
    assert listed(tmp_path) == {"thesis.tex"}


def test_an_audit_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text('moves = "loaded"\n')
    with pytest.raises(RunError, match="does not begin with '# countermove run folder, format'"):
        play_in(tmp_path)
    assert (tmp_path / "audit.toml").read_text() == 'moves = "loaded"\n'


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match=r"cannot use .*run: Not a directory"):
        play_in(tmp_path / "run")


@pytest.mark.parametrize("found", ["2", "0", "one", ""])
def test_another_format_is_refused(run: RunFolder, found: str) -> None:
    text = (run.path / "audit.toml").read_text()
    (run.path / "audit.toml").write_text(text.replace(f"format {FORMAT}\n", f"format {found}\n", 1))
    with pytest.raises(RunError, match=f"written in format {found}, and this version reads format {FORMAT}"):
        play_in(run.path)
    with pytest.raises(RunError, match="Use the version that wrote it"):
        RunFolder.existing(run.path)


def test_what_is_no_run_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no readable audit.toml"):
        RunFolder.existing(tmp_path / "none")
    (tmp_path / "audit.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"holds no readable audit.toml"):
        RunFolder.existing(tmp_path)


def test_a_folder_that_died_before_its_first_file_is_ours(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "run.lock").touch()
    (tmp_path / ".tmp-x").touch()
    summary, _ = play_in(tmp_path, seeds=1)
    assert not summary.unfinished


def test_one_driver_at_a_time(run: RunFolder) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from countermove.game.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        before = files(run.path)
        with pytest.raises(RunError, match=rf"another process \(pid {other.pid}\) is playing in .*Wait until it ends"):
            play_in(run.path)
        assert files(run.path) == before
        other.communicate("")
    summary, _ = play_in(run.path, seeds=1)
    assert summary.done


def test_the_lock_falls_with_its_process(run: RunFolder) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from countermove.game.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, run.path], check=False).returncode == -9
    with run.locked():
        assert (run.path / "run.lock").read_text() == f"pid {os.getpid()}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format": 1, "key": "k", "status": "o',
        b'{"format": 1, "key": "another", "status": "ok"}',
        b'{"format": 2, "key": "k", "status": "ok"}',
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_a_cell_that_cannot_be_believed_counts_as_absent(run: RunFolder, content: bytes) -> None:
    (run.cells / "k.json").write_bytes(content)
    assert run.read_cell("k") is None
    assert run.records() == []


def test_a_truncated_cell_is_played_again(tmp_path: Path) -> None:
    play_in(tmp_path, seeds=1)
    victim = sorted((tmp_path / "cells").iterdir())[0]
    whole = victim.read_text()
    victim.write_text(whole[: len(whole) // 2])
    summary, watched = play_in(tmp_path, seeds=1)
    assert len(watched.played) == 1
    assert summary.cached == summary.cells - 1
    assert json.loads(victim.read_text())["metrics"] == json.loads(whole)["metrics"]


def made(run: RunFolder, content: str = "coins") -> None:
    with run.making(TASK) as (desk, crafted):
        (desk.folder / "coins.txt").write_text(content)
        crafted.append(Crafted(cost=Cost(samples=3), facts={"eps": 8 / 255}))


def test_an_artifact_gets_its_name_and_manifest_when_it_is_whole(run: RunFolder) -> None:
    assert not run.has_artifact(TASK.key)
    made(run)
    assert run.has_artifact(TASK.key)
    manifest = run.manifest(TASK.key)
    assert manifest["facts"] == {"eps": 8 / 255}
    assert manifest["cost"]["samples"] == 3
    assert list(manifest["files"]) == ["coins.txt"]
    assert (run.desk(TASK).artifact(TASK) / "coins.txt").read_text() == "coins"
    assert listed(run.artifacts) == {TASK.key, f"{TASK.key}/coins.txt", f"{TASK.key}/manifest.json"}


def test_an_artifact_that_fails_leaves_nothing(run: RunFolder) -> None:
    def fail() -> None:
        with run.making(TASK) as (desk, _):
            (desk.folder / "coins.txt").write_text("half")
            raise ValueError("a method's own")

    with pytest.raises(ValueError, match="a method's own"):
        fail()
    assert not run.has_artifact(TASK.key)
    assert listed(run.artifacts) == set()


@pytest.mark.parametrize("damage", ["no manifest", "half a manifest", "another's manifest"])
def test_a_half_written_artifact_is_never_believed(run: RunFolder, damage: str) -> None:
    made(run)
    manifest = run.artifacts / TASK.key / "manifest.json"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "half a manifest":
        manifest.write_text(manifest.read_text()[:50])
    else:
        manifest.write_text(manifest.read_text().replace(TASK.key, "0" * 64))
    (run.artifacts / TASK.key / "stale.txt").write_text("stale")
    assert not run.has_artifact(TASK.key)
    with pytest.raises(RunError, match="has no readable manifest"):
        run.manifest(TASK.key)
    made(run, "new coins")
    assert run.has_artifact(TASK.key)
    assert (run.artifacts / TASK.key / "coins.txt").read_text() == "new coins"
    assert not (run.artifacts / TASK.key / "stale.txt").exists()


def test_a_full_disk_leaves_no_artifact(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        broken(patch, "fsync", errno.ENOSPC)
        with pytest.raises(RunError, match="Free some space"):
            made(run)
    assert listed(run.artifacts) == set()
    made(run)
    assert run.has_artifact(TASK.key)


def test_checkpoints_are_kept_until_the_task_is_done(run: RunFolder) -> None:
    scratch = run.desk(TASK).scratch
    scratch.mkdir()
    (scratch / "state.json").write_text("{}")
    with run.locked():
        assert (scratch / "state.json").exists()
    made(run)
    assert not scratch.exists()


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_ends_the_run_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    play_in(tmp_path, seeds=1)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        broken(patch, "create", code)
        with pytest.raises(RunError, match=f"{os.strerror(code)}. (Free|Choose)"):
            play_in(tmp_path, seeds=2)
    assert files(tmp_path) == before
    summary, _ = play_in(tmp_path, seeds=2)
    assert not summary.unfinished


def test_a_disk_that_fills_up_in_the_middle_loses_only_what_was_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunFolder.write_cell
    written = 0

    def write_few(self: RunFolder, key: str, record: dict[str, Any]) -> None:
        nonlocal written
        written += 1
        if written > 4:
            raise RunError("cannot write: No space left on device.")
        whole(self, key, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_cell", write_few)
        with pytest.raises(RunError, match="No space left"):
            play_in(tmp_path)
    assert len(list((tmp_path / "cells").iterdir())) == 4
    summary, _ = play_in(tmp_path)
    assert summary.cached == 4
    assert not summary.unfinished


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(RunError, match=r"cannot use .*Read-only file system. Choose an --out"):
        play_in(tmp_path / "new")


def test_the_configuration_is_read_back(run: RunFolder) -> None:
    assert run.read_config() == audit()
    assert RunFolder.existing(run.path).read_config() == audit()
    (run.path / "audit.toml").write_text(f"# countermove run folder, format {FORMAT}\nmoves = [")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        run.read_config()


def test_the_plan_says_which_cells_are_reported(run: RunFolder) -> None:
    for key in ("a", "b", "c"):
        run.write_cell(key, {"format": FORMAT, "key": key})
    assert run.read_plan() is None
    assert [record["key"] for record in run.records()] == ["a", "b", "c"]
    run.write_plan([{"key": "c"}, {"key": "not yet"}, {"key": "a"}])
    assert [record["key"] for record in run.records()] == ["c", "a"]
