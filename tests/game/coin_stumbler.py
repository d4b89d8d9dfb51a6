"""Plays an audit of the toy arena while dying at every touch of the disk: ``python coin_stumbler.py OUT``.

Child number n is killed at the n-th time it opens, renames, makes or removes anything; the next child goes on in the
same folder. Prints how many children died before one came to the end.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from coin_audits import play_in

TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkstemp"}


def die_at(count: int, folder: Path) -> None:
    """Let this process be killed at its count-th touch of a folder."""
    left, inside = count, str(folder)

    def hook(event: str, what: tuple[Any, ...]) -> None:
        nonlocal left
        if event in TOUCHES and str(what[0]).startswith(inside):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main() -> int:
    """Fork until a child comes to the end."""
    out = Path(sys.argv[1]).resolve()
    for count in range(1, 500):
        child = os.fork()
        if child == 0:
            die_at(count, out)
            summary, _ = play_in(out, seeds=1)
            os._exit(3 if summary.unfinished else 0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            print(count - 1, flush=True)
            return code
    return 1


if __name__ == "__main__":
    sys.exit(main())
