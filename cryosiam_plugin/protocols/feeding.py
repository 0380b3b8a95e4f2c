"""From the input sets, open or closed, to tomograms that can be computed."""

from __future__ import annotations

from typing import Any

from pyworkflow.utils.retry_streaming import retry_on_sqlite_lock
from tomo.objects import SetOfCoordinates3D, SetOfSubTomograms

from cryosiam_plugin.convert import ts_ids_of


@retry_on_sqlite_lock()
def readSet(pointer: Any) -> tuple[dict[str, Any], bool]:
    """Read an input set as it is on disk now.

    Parameters
    ----------
    pointer
        To a set of tomograms, masks or particles that another protocol may still be writing.

    Returns
    -------
    items : dict
        A clone of every item, by tsId; of particles, only the tsIds of their tomograms.
    is_open : bool
        Whether more may come.
    """
    source = pointer.get()
    # An object of our own: the pointer's one keeps what it has read.
    fresh = type(source)(filename=source.getFileName())
    try:
        fresh.loadAllProperties()
        # Before the items: one that came in between is seen next time.
        is_open = fresh.isStreamOpen()
        items = _items(fresh) if fresh.getSize() else {}
        # A set that has no item yet has no properties on disk either.
        return items, is_open if items else source.isStreamOpen()
    finally:
        fresh.close()


def _items(source: Any) -> dict[str, Any]:
    if isinstance(source, (SetOfCoordinates3D, SetOfSubTomograms)):
        return {tsId: tsId for tsId in ts_ids_of(source)}
    return {item.getTsId(): item.clone() for item in source.iterItems()}


class Feed:
    """Follows the tomograms and what belongs to them (masks) until nothing more can come.

    Parameters
    ----------
    tomograms
        Pointer to the tomograms.
    partners
        Pointers to further sets, by what their items are; a tomogram is ready once it is in all.
    """

    def __init__(self, tomograms: Any, partners: dict[str, Any]) -> None:
        self._pointer = tomograms
        self._partnerPointers = partners
        self.tomograms: dict[str, Any] = {}
        self.partners: dict[str, dict[str, Any]] = {name: {} for name in partners}
        self._given: set[str] = set()

    def update(self) -> bool:
        """Look at the sets again; True while more may come."""
        self.tomograms, is_open = readSet(self._pointer)
        for name, pointer in self._partnerPointers.items():
            self.partners[name], more = readSet(pointer)
            is_open = is_open or more
        return is_open

    def take(self) -> list[str]:
        """The tsIds that became ready since the last call."""
        ready = [
            tsId
            for tsId in self.tomograms
            if tsId not in self._given and all(tsId in items for items in self.partners.values())
        ]
        self._given.update(ready)
        return ready

    def lacking(self) -> dict[str, str]:
        """At the end: what is missing, by tsId of the tomograms that never became ready."""
        found = {}
        for tsId in self.tomograms:
            missing = [name for name, items in self.partners.items() if tsId not in items]
            if missing:
                found[tsId] = " and ".join(missing)
        return found
