"""One thread for every test of this room: a network's weights depend on how many there are."""

from __future__ import annotations

from tests.threads import one_thread as one_thread
