"""The way of a selection from the server's threads into Scipion's window and project."""

from __future__ import annotations

import threading
import time

import pytest

from cryosiam_plugin.viewers import map_selection
from cryosiam_plugin.viewers.map_selection import (
    WindowThread,
    make_selection,
    show_new_run,
)
from cryosiam_plugin.viewers.map_server import SelectionRefused


class Loop:
    """As much of Tk as is needed: functions to be called later, by whoever turns the loop."""

    def __init__(self):
        self.later = []

    def _root(self):
        return self

    def after(self, milliseconds, function):
        self.later.append(function)

    def turn(self):
        due, self.later = self.later, []
        for function in due:
            function()


@pytest.fixture
def loop():
    return Loop()


def in_thread(function):
    """Start a thread; gives what it gave or raised, once it has ended."""
    box = {}

    def body():
        try:
            box["value"] = function()
        except Exception as error:
            box["error"] = error

    thread = threading.Thread(target=body)
    thread.start()
    return thread, box


def turn_until_ended(loop, thread):
    deadline = time.monotonic() + 10
    while thread.is_alive():
        assert time.monotonic() < deadline
        loop.turn()
        time.sleep(0.005)


def test_it_is_done_in_the_window_s_thread(loop):
    window = WindowThread(loop)
    thread, box = in_thread(lambda: window.run(threading.get_ident))
    turn_until_ended(loop, thread)
    assert box == {"value": threading.get_ident()}
    assert thread.ident != threading.get_ident()


def test_errors_reach_the_one_who_asked_and_nobody_else(loop):
    window = WindowThread(loop)

    def refuse():
        raise SelectionRefused("no")

    thread, box = in_thread(lambda: window.run(refuse))
    turn_until_ended(loop, thread)
    assert str(box["error"]) == "no"
    thread, box = in_thread(lambda: window.run(lambda: "again"))
    turn_until_ended(loop, thread)
    assert box == {"value": "again"}


def test_what_was_given_up_is_never_done(loop, monkeypatch):
    """The user was told that it was not done: it must not happen when a dialog is closed."""
    monkeypatch.setattr(map_selection, "_PATIENCE_SECONDS", 0.05)
    window = WindowThread(loop)
    done = []
    with pytest.raises(SelectionRefused, match="does not answer"):
        window.run(lambda: done.append(1))
    loop.turn()
    assert done == []
    assert loop.later, "it does not look again"


def test_what_has_begun_is_waited_for(loop, monkeypatch):
    monkeypatch.setattr(map_selection, "_PATIENCE_SECONDS", 0.05)
    window = WindowThread(loop)

    def slow():
        time.sleep(0.3)
        return "made"

    thread, box = in_thread(lambda: window.run(slow))
    turn_until_ended(loop, thread)
    assert box == {"value": "made"}


class Project:
    def __init__(self, *, reading_only=False):
        self._reading_only = reading_only

    def openedAsReadOnly(self):
        return self._reading_only


def test_a_project_that_is_only_read_gets_no_runs():
    with pytest.raises(SelectionRefused, match="for reading only"):
        make_selection(Project(reading_only=True), None, "x", [1])


def test_selections_of_the_same_name_have_files_of_their_own(tmp_path):
    first = map_selection._free_path(tmp_path, "My ribosomes / 70S!")
    assert first.name == "My_ribosomes_70S_1.csv"
    first.touch()
    assert map_selection._free_path(tmp_path, "My ribosomes / 70S!").name == (
        "My_ribosomes_70S_2.csv"
    )
    assert map_selection._free_path(tmp_path, "../../é").name == "selection_1.csv"


def test_windows_without_a_list_of_runs_are_left_alone():
    class View:
        refreshed = 0

        def refreshRuns(self):
            View.refreshed += 1

    class Window:
        def __init__(self, view):
            self._view = view

        def getViewWidget(self):
            return self._view

    for window in (None, object(), Window(None), Window(object()), Window(View())):
        show_new_run(window)
    assert View.refreshed == 1
