"""Sharing out tomograms among processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryosiam_plugin.protocols.batches import automatic_size, split

NUMBERS = st.integers(1, 500)


@given(st.lists(st.text(max_size=3), max_size=40), st.integers(1, 50))
def test_split_loses_nothing_and_keeps_the_order(ts_ids, size):
    parts = split(ts_ids, size)
    assert [ts_id for part in parts for ts_id in part] == ts_ids
    assert all(1 <= len(part) <= size for part in parts)
    assert all(len(part) == size for part in parts[:-1])


@given(NUMBERS, NUMBERS)
def test_locally_a_model_is_loaded_once_per_slot_and_no_slot_is_idle(number, slots):
    size = automatic_size(number, n_slots=slots, queue_for_steps=False)
    n_processes = len(split(list(map(str, range(number))), size))
    assert n_processes <= slots
    # One tomogram less per process would need more processes than there are slots.
    assert size == 1 or (size - 1) * slots < number


@given(NUMBERS, NUMBERS)
def test_a_queue_gets_one_tomogram_per_job(number, slots):
    assert automatic_size(number, n_slots=slots, queue_for_steps=True) == 1


@pytest.mark.parametrize(("number", "slots"), [(0, 1), (3, 0)])
def test_nothing_to_do_or_nowhere_to_do_it_is_no_error(number, slots):
    assert automatic_size(number, n_slots=slots, queue_for_steps=False) == max(1, number)
