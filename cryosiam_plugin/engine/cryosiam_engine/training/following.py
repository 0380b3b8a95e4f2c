"""How far a look through many files is, before the training itself has anything to tell."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from cryosiam_engine.training.processes import is_first_process

logger = logging.getLogger(__name__)

#: Seconds between two lines where there is no terminal.
LINE_SECONDS = 15.0

_Item = TypeVar("_Item")


def followed(items: Sequence[_Item], what: str) -> Iterator[_Item]:
    """Give the items one by one, with a bar on a terminal, else a line in the log now and then.

    Of several processes that train together only the first one tells.

    Parameters
    ----------
    items
        What is looked at.
    what
        Is done with them, to be read by a user: ``Looking through the labels``.
    """
    if not is_first_process():
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, unit=" file", leave=False, dynamic_ncols=True)
        return
    last = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            logger.info("%s: %d of %d files.", what, number, len(items))
        yield item
