"""Let a double click on one of our outputs open our viewer, whatever else is installed."""

from __future__ import annotations

from typing import MutableMapping

#: As Scipion's variable VIEWERS writes it.
OUR_VIEWER = "cryosiam_plugin.viewers.AAACryosiamSetViewer"

_SETS = ("SetOfTomoMasks", "SetOfTomograms", "SetOfCoordinates3D")


def prefer_our_viewer(viewers: MutableMapping[str, list[str]]) -> None:
    """Put our viewer before those that Scipion prefers.

    Scipion's own default prefers 3dmod for all tomograms and masks. Our viewer takes outputs of
    our protocols only, so that nothing changes for those of others; the menu of an output still
    offers all viewers.

    Parameters
    ----------
    viewers
        Scipion's ``Config.VIEWERS``: names of viewers, the preferred one first, by class of
        object. A class that is not in it is left alone: there our viewer comes first anyway.
    """
    for name in _SETS:
        if name in viewers and OUR_VIEWER not in viewers[name]:
            viewers[name].insert(0, OUR_VIEWER)
