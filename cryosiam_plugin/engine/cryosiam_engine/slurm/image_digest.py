"""The sha256 of the container image, so that results can name exactly what made them.

An image has gigabytes: it is read once, and its digest is remembered as long as the file stays as
it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import lru_cache
from pathlib import Path

logger = logging.getLogger(__name__)

#: What the engine in the container reads: the image's file and its sha256.
CRYOSIAM_IMAGE, CRYOSIAM_IMAGE_SHA256 = "CRYOSIAM_IMAGE", "CRYOSIAM_IMAGE_SHA256"
#: Digests of other images that are remembered; the oldest are forgotten.
_REMEMBERED = 20
_CHUNK = 2**22


def image_variables(sif: str) -> dict[str, str]:
    """The environment that tells the engine which image it runs in.

    Parameters
    ----------
    sif
        The image's file. Of a folder (a sandbox) there is no digest.
    """
    path = Path(sif).resolve()
    variables = {CRYOSIAM_IMAGE: str(path)}
    try:
        found = path.stat()
        if path.is_file():
            variables[CRYOSIAM_IMAGE_SHA256] = _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        # Nothing may fail because its record would be incomplete.
        logger.warning("The digest of %s is not recorded: %s", path, error)
    return variables


@lru_cache(maxsize=8)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    key = f"{path} {size} {mtime_ns}"
    known = _known()
    if key in known:
        return known[key]
    logger.info("Computing the SHA-256 of %s (%.1f GB), once.", path, size / 1e9)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    value = digest.hexdigest()
    _remember({**_known(), key: value})
    return value


def _store() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("CRYOSIAM_CACHE") or Path(caches) / "cryosiam"
    return Path(folder) / "image_digests.json"


def _known() -> dict[str, str]:
    try:
        known = json.loads(_store().read_text("utf-8"))
    except (OSError, RuntimeError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(known: dict[str, str]) -> None:
    try:
        store = _store()
        store.parent.mkdir(parents=True, exist_ok=True)
        partial = store.with_name(f"{store.name}.{os.getpid()}")
        partial.write_text(json.dumps(dict(list(known.items())[-_REMEMBERED:]), indent=1), "utf-8")
        partial.replace(store)
    except (OSError, RuntimeError):
        logger.debug("The digest of the image cannot be remembered.", exc_info=True)
