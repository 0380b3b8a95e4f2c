"""A list to choose from, as Scipion's own wizards show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Sequence

from pyworkflow.gui.dialog import RESULT_YES, ListDialog
from pyworkflow.gui.tree import TreeProvider


@dataclass
class Row:
    """A line of the list: what it stands for, its cells, and whether it is chosen at first."""

    value: Any
    cells: Sequence[str]
    chosen: bool = False


class _Rows(TreeProvider):
    def __init__(self, columns: Sequence[tuple[str, int]], rows: Sequence[Row]) -> None:
        super().__init__()
        self._columns = list(columns)
        self.rows = list(rows)

    def getColumns(self) -> list[tuple[str, int]]:
        return self._columns

    def getObjects(self) -> list[Row]:
        return self.rows

    def getObjectInfo(self, row: Row) -> dict[str, Any]:
        values = tuple(row.cells[1:])
        return {"key": str(self.rows.index(row)), "text": row.cells[0], "values": values}


class _Choice(ListDialog):
    def body(self, bodyFrame: Any) -> None:
        super().body(bodyFrame)
        chosen = [str(n) for n, row in enumerate(self.provider.rows) if row.chosen]
        self.tree.selection_set(chosen)
        self.tree.configure(height=min(max(len(self.provider.rows), 4), 16))


def choose(
    parent: Any,
    title: str,
    columns: Sequence[tuple[str, int]],
    rows: Sequence[Row],
    *,
    message: str,
    several: bool,
    dialog: Callable[..., Any] = _Choice,
) -> list[Any]:
    """Let the user choose from a list.

    Parameters
    ----------
    parent
        Window of the form.
    title
        Of the dialog.
    columns
        Names and widths in pixels.
    rows
        The list.
    message
        Told below it.
    several
        Whether more than one line can be chosen.
    dialog
        The window's class.

    Returns
    -------
    list
        The chosen rows' values; empty when the user cancels.
    """
    window = dialog(
        parent,
        title,
        _Rows(columns, rows),
        message=message,
        selectmode="extended" if several else "browse",
        selectOnDoubleClick=not several,
    )
    return [row.value for row in window.values] if window.result == RESULT_YES else []
