"""What may start when: everything before it first, artifacts before cells, nothing behind a failure."""

from __future__ import annotations

from pathlib import Path

from coin_audits import audit

from countermove.game.engines.order import Order
from countermove.game.run import Done, Job, resolve


def jobs(seeds: int = 2) -> list[Job]:
    grid = resolve(audit(seeds=seeds))
    return [Job(task, Path("run"), "coin", grid.rules) for task in grid.tasks]


def ok(job: Job) -> Done:
    return Done(job.task.key, "ok", 0.0)


def test_nothing_starts_before_what_it_needs_and_all_are_done_once() -> None:
    todo = jobs()
    order, done, flying = Order(todo), set[str](), list[Job]()
    while order or flying:
        while order and len(flying) < 3:
            job = order.take()
            assert all(task.key in done for task in job.task.before)
            flying.append(job)
        job = flying.pop(len(done) % len(flying))  # they do not end in the order in which they began
        done.add(job.task.key)
        assert order.settle(job, ok(job)) == []
    assert len(done) == len(todo)


def test_artifacts_come_first_and_references_before_other_cells() -> None:
    order, ranks = Order(jobs(seeds=1)), []
    while order:
        job = order.take()
        ranks.append(2 if job.task.reference else 1 if job.task.setting else 0)
        order.settle(job, ok(job))
    assert ranks == sorted(ranks)
    assert ranks[0] == 0


def test_what_is_already_done_is_not_waited_for() -> None:
    todo = [job for job in jobs(seeds=1) if job.task.setting is not None and job.task.reference is not None]
    order, taken = Order(todo), 0
    while order:
        order.take()
        taken += 1
    assert taken == len(todo)


def test_a_failure_blocks_what_needs_it_once_and_nothing_else() -> None:
    todo = jobs(seeds=1)
    order, blocked, played = Order(todo), [], []

    def settle(job: Job, done: Done) -> None:
        for later, cause in order.settle(job, done):
            assert cause.status != "ok"
            blocked.append(later.task.label)
            settle(later, Done(later.task.key, "blocked", 0.0))

    while order:
        job = order.take()
        played.append(job.task.label)
        settle(job, Done(job.task.key, "failed", 0.0) if job.task.kind == "mould" else ok(job))
    assert len(blocked) == len(set(blocked))
    assert all("shaved" in label for label in blocked)
    assert sorted(blocked + played) == sorted(job.task.label for job in todo)
