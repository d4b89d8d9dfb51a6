"""Keys: the same for the same content in any order, different for any difference, and never changed by accident."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermove.game.cell import Cost, Setting, Task, canonical, digest

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
payloads = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


def turned(value: Any) -> Any:
    """The same content with every dictionary filled in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every leaf."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [place for key, item in items for place in places(item, (*path, key))]
    return [path] if path else []


@given(payloads)
def test_the_order_makes_no_difference(payload: dict[str, Any]) -> None:
    assert canonical(turned(payload)) == canonical(payload)
    assert Task("cell", "", turned(payload)).key == Task("cell", "", payload).key


@given(payloads)
def test_the_canonical_form_loses_nothing(payload: dict[str, Any]) -> None:
    assert json.loads(canonical(payload)) == payload
    assert canonical(payload).isascii()


@given(payloads, st.data())
def test_every_field_counts(payload: dict[str, Any], data: st.DataObject) -> None:
    found = places(payload)
    if not found:
        return
    *path, last = data.draw(st.sampled_from(found))
    other = copy.deepcopy(payload)
    target: Any = other
    for key in path:
        target = target[key]
    target[last] = data.draw(scalars.filter(lambda new: canonical(new) != canonical(target[last])))
    assert digest(other) != digest(payload)


@given(payloads, st.text(min_size=1, max_size=6))
def test_an_added_field_counts(payload: dict[str, Any], key: str) -> None:
    if key not in payload:
        assert digest({**payload, key: None}) != digest(payload)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_has_no_key(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"x": number})


def test_the_key_holds_kind_payload_and_needs_and_nothing_else() -> None:
    one, two = Task("move", "", {"seed": 1}), Task("move", "", {"seed": 2})
    cell = Task("cell", "a", {"x": 1}, (one,))
    assert replace(cell, label="b").key == cell.key
    assert replace(cell, setting=Setting("coin", "d", "m", "c", "n", 0)).key == cell.key
    assert replace(cell, reference=two).key == cell.key
    others = [replace(cell, kind="other"), replace(cell, payload={"x": 2}), replace(cell, needs=(two,))]
    others += [replace(cell, needs=()), replace(cell, needs=(one, two)), replace(cell, needs=(two, one))]
    assert len({task.key for task in [cell, *others]}) == 7


def test_a_change_far_below_reaches_the_cell() -> None:
    def cell(angle: int) -> Task:
        surrogate = Task("surrogate", "", {"angle": angle})
        return Task("cell", "", {}, (Task("move", "", {}, (surrogate,)),))

    assert cell(1).key == cell(1).key
    assert cell(1).key != cell(2).key


def test_tasks_are_equal_when_their_keys_are() -> None:
    assert Task("move", "a", {"x": 1, "y": 2}) == Task("move", "b", {"y": 2, "x": 1})
    assert len({Task("move", "a", {"x": 1}), Task("move", "b", {"x": 1}), Task("move", "b", {"x": 2})}) == 2
    assert Task("move", "", {}) != "move"


def test_the_key_is_pinned() -> None:
    """If this fails, every run folder in the world is out of date: say so in the changelog, and raise the format."""
    move = Task("move", "", {"eps": 8 / 255, "name": "é", "flags": [True, None], "steps": 3})
    assert move.key == "061e956f4bbb7da9456ba2e8053a5a80fbcf19e86f0ede637303fcc4988e762e"
    assert (
        Task("cell", "", {"seed": 0}, (move,)).key == "3463fbd65f0b6ff16c1775b0bb45bbadb70a1a8cc0f07b51c1a3392d68a03b85"
    )


def test_what_a_task_needs_is_found_by_kind_and_comes_before_it() -> None:
    move, reference = Task("move", "", {}), Task("cell", "", {"move": "none"})
    cell = Task("cell", "", {}, (move,), reference=reference)
    assert cell.need("move") is move
    assert cell.need("surrogate") is None
    assert cell.before == (move, reference)
    assert replace(cell, reference=None).before == (move,)


def test_shared_artifacts_are_charged_once_to_the_side_that_pays() -> None:
    surrogate, features = Task("surrogate", "", {"x": 1}, payer="mover"), Task("features", "", {"x": 2})
    move = Task("move", "", {}, (surrogate, features), payer="mover")
    cell = Task("cell", "", {}, (move, surrogate, features))
    assert set(cell.charged_to("mover").values()) == {move, surrogate}
    assert set(cell.charged_to("trainer").values()) == {features}
    assert Task("cell", "", {}).charged_to("mover") == {}


def test_costs_add_up() -> None:
    one = Cost(seconds=1.5, samples=2, parameters_changed=3, bytes_stored=4, clean_examples=5)
    assert one + Cost(samples=10) == replace(one, samples=12)
    assert one + Cost() == one
