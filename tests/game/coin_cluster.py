"""Holds a private Ray cluster until its standard input ends: ``python coin_cluster.py CPUS``. Prints the address."""

from __future__ import annotations

import sys

from countermove.game.engines.ray import private_cluster


def main() -> None:
    """Start, tell, wait."""
    with private_cluster(int(sys.argv[1])) as ray:
        print(ray.get_runtime_context().gcs_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
