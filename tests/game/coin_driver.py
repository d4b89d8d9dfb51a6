"""Plays one audit of the toy arena in a folder: ``python coin_driver.py OUT WORKERS SLEEP``. Made to be killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from coin_audits import play_in


def main() -> int:
    """Play, and end as the command line does."""
    out, workers, sleep = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started without it
    print("ready", flush=True)
    try:
        summary, watched = play_in(
            out,
            moves=["loaded(bias=0.4)", "shaved", "magnet"],
            countermoves=["shake", "scale"],
            seeds=3,
            engine={"threads": 1, "workers": workers},
            training={"sleep": sleep},
        )
    except KeyboardInterrupt:
        return 130
    print(len(watched.started), summary.cells, flush=True)
    return 3 if summary.unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
