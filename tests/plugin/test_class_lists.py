"""Classes as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryosiam_plugin.protocols.class_lists import (
    KEEP_ALL,
    class_name,
    class_table,
    parse_classes,
    parse_sizes,
)

NAMES = {1: "membrane", 2: "ribosome", 3: "26S proteasome", 4: "7"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (None, []),
        (" , ", []),
        ("2", [2]),
        ("1, 3-5, ribosome", [1, 2, 3, 4, 5]),
        ("3 1 2", [1, 2, 3]),
        ("5 - 3", []),
        ("2, 2, RIBOSOME", [2]),
        ("26s Proteasome", [3]),
        ("7", [7]),
        ("12", [12]),
    ],
)
def test_classes(text, expected):
    assert parse_classes(text, NAMES) == expected


@given(st.lists(st.integers(1, 200), max_size=20), st.sampled_from([", ", ",", " ", "  "]))
def test_numbers_come_back_sorted_and_once(numbers, separator):
    text = separator.join(map(str, numbers))
    assert parse_classes(text, {}) == sorted(set(numbers))


@pytest.mark.parametrize("text", ["0", "0-2", "1, 0"])
def test_the_background_is_no_class(text):
    with pytest.raises(ValueError, match="background"):
        parse_classes(text, NAMES)


@pytest.mark.parametrize("text", ["ribosom", "-1", "1.5", "1;2", "1: 5"])
def test_what_is_no_class_is_named(text):
    with pytest.raises(ValueError, match="no class called") as caught:
        parse_classes(text, NAMES)
    assert f"'{text}'" in str(caught.value)
    assert "2 (ribosome)" in str(caught.value)


def test_without_names_only_numbers_can_be_given():
    with pytest.raises(ValueError, match="numbers only"):
        parse_classes("ribosome", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("1: 5000", [KEEP_ALL, 5000]),
        ("3:10, ribosome : 0", [KEEP_ALL, KEEP_ALL, 0, 10]),
        ("26s proteasome: 7", [KEEP_ALL, KEEP_ALL, KEEP_ALL, 7]),
    ],
)
def test_sizes_are_by_class_from_the_background_on(text, expected):
    assert parse_sizes(text, NAMES) == expected


@pytest.mark.parametrize("text", ["5000", "1: many", "1: -5", "1: 2.5", ":", "1:"])
def test_sizes_of_another_form_are_named(text):
    with pytest.raises(ValueError, match="class: voxels") as caught:
        parse_sizes(text, NAMES)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize(("text", "why"), [("0: 5", "background"), ("actin: 5", "no class called")])
def test_sizes_of_no_class(text, why):
    with pytest.raises(ValueError, match=why):
        parse_sizes(text, NAMES)


def test_a_table_has_the_counted_and_the_named():
    counted = {"10": 5, "2": 3}
    expected = {1: "membrane", 2: "ribosome", 10: "class 10"}
    assert class_table(counted, {1: "membrane", 2: "ribosome"}) == expected
    assert list(class_table(counted, {1: "membrane"})) == [1, 2, 10]
    assert class_name(3, {3: ""}) == "class 3"
