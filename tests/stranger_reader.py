"""Reads strangers' files in children with little memory: ``python stranger_reader.py CAP < LIST``.

LIST is JSON, [[reader, path], ...]. Every file is read in a fork of this process that may have CAP more bytes and a
minute. Prints, for each, how it ended and by how many bytes the memory in use had grown at its peak.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - read before memory is measured

from countermove.errors import CountermoveError
from countermove.game.config import load_config
from countermove.game.results import load_results
from countermove.game.store import RunFolder
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.weights import read_state, read_tree
from countermove.pixels.files import iter_pictures, read_npy, read_npz, read_picture
from countermove.pixels.published import published
from countermove.profiles.data.reading import read_rows
from countermove.profiles.sound import read_wav
from countermove.recommender.data import tables
from countermove.recommender.data.conversion import convert
from countermove.report.page import write_page
from countermove.retrieval.data.folder import read_table as read_listed
from countermove.retrieval.data.ground_truth import read_truth
from countermove.unlearnable.data.hf import HfFolder
from countermove.unlearnable.data.vision import Cifar10

SECONDS = 60


def _manifest(path: Path) -> None:
    with published(path) as folder:
        folder.begin({"arena": "unlearnable", "method": "none", "seed": 0})


READERS: dict[str, Callable[[Path], Any]] = {
    "picture": read_picture,
    "pictures": lambda path: list(iter_pictures(path)),
    "npy": read_npy,
    "npz": lambda path: read_npz(path, ["x_train"]),
    "conversion": lambda path: convert(path, path.with_suffix(".converted")),
    "truth": read_truth,
    "state": read_state,
    "tree": read_tree,
    "checkpoint": lambda path: Checkpoint(path).load(),
    "audit": load_config,
    "sound": read_wav,
    "table": lambda path: tables.read_table(path, {"user": "user"}),
    "rows": lambda path: read_rows(path, "user"),
    "listed": lambda path: read_listed(path.parent, path),
    "imagefolder": lambda path: HfFolder(path=str(path))(),
    "cifar10": lambda path: Cifar10()(root=path),
    "manifest": _manifest,
    "run": lambda path: load_results(RunFolder.existing(path)),
    "page": lambda path: write_page(RunFolder.existing(path)),
}


def size() -> int:
    """Return the bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def peak() -> int:
    """Return the most bytes of memory that were in use, by the same count as the parent reads of a child that ended."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read(reader: str, path: Path, cap: int, told: int) -> None:
    """Read one file and tell how it went; never returns."""
    signal.alarm(SECONDS)
    began = peak()  # less than the parent's: a fork begins without the pages of libraries
    limit = size() + cap
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        found = READERS[reader](path)
        said = ["read" if found is not None else "nothing", ""]
    except CountermoveError as error:
        said = [type(error).__name__, str(error)]
    except BaseException as error:
        said = ["FOREIGN", f"{type(error).__name__}: {error}"[:500]]
    os.write(told, json.dumps([began, *said]).encode()[:60_000])
    os._exit(0)


def main() -> None:
    """Read them all."""
    cap = int(sys.argv[1])
    ends = []
    for reader, path in json.load(sys.stdin):
        hear, told = os.pipe()
        child = os.fork()
        if child == 0:
            read(reader, Path(path), cap, told)
        os.close(told)
        with os.fdopen(hear, "rb") as file:
            said = file.read()
        _, status, usage = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        began, how, words = json.loads(said) if code == 0 else (0, "FOREIGN", f"ended with {code}")
        ends.append([how, words, usage.ru_maxrss * 1024 - began])
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
