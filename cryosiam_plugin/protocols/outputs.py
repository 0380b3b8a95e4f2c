"""Output sets that grow while a run goes on, and survive that it is killed at any moment."""

from __future__ import annotations

import json
import logging
from typing import Any, Iterable

from pyworkflow.object import Set as ScipionSet
from pyworkflow.object import String
from pyworkflow.utils import redStr
from pyworkflow.utils.retry_streaming import retry_on_sqlite_lock
from tomo.objects import SetOfCoordinates3D, SetOfSubTomograms, SetOfTomograms, Tomogram

from cryosiam_plugin.convert import ts_ids_of
from cryosiam_plugin.protocols.part import ProtocolPart

logger = logging.getLogger(__name__)

#: Name of the output with the tomograms that gave no result.
FAILED_OUTPUT = "failedTomograms"


class GrowingOutputs(ProtocolPart):
    """Mixed into a protocol: sets that are written tomogram by tomogram.

    Everything here is called with results of one tomogram and may be called again with the same:
    a set never gets a tomogram twice. The set that `_primaryOutput` names is written last, so a
    tomogram that is in it is in all the others.
    """

    _primaryOutput: str = ""

    def _tsIdsOf(self, name: str) -> set[str]:
        """The tomograms that an output holds results of."""
        output = getattr(self, name, None)
        if output is None:
            return set()
        closed = output._mapper is None
        output._getMapper()  # a killed run may have stored an older size than the file has
        tsIds = _tsIds(output) if output.getSize() else set()
        if closed:
            output.close()
        return tsIds

    @retry_on_sqlite_lock(log=logger)
    def _append(
        self, name: str, setClass: type[Any], items: Iterable[Any], tsId: str, **how: Any
    ) -> None:
        """Add one tomogram's items to an output, made at the first call.

        Parameters
        ----------
        name
            The output's name.
        setClass
            Its class.
        items
            New items. They get their ids here, unless they were taken from a set that this one
            is `like`.
        tsId
            Whose they are. Nothing is done where the output has it already.
        **how
            ``boxSize`` of coordinates, or ``like``: the pointer to the set of particles that these
            are taken from, on tomograms of their own.
        """
        with self._lock:
            output = self._output(name, setClass, **how)
            try:
                if tsId not in self._tsIdsOf(name):
                    for item in items:
                        if "like" not in how:
                            item.cleanObjId()
                        # A tomogram that failed may have no dimensions that could be read.
                        (ScipionSet.append if name == FAILED_OUTPUT else setClass.append)(
                            output, item
                        )
                output.write()
                self._store(output)
            finally:
                # Unwritten rows are dropped, and nobody who reads the set meets a lock.
                output.close()

    def _output(self, name: str, setClass: type[Any], **how: Any) -> Any:
        output = getattr(self, name, None)
        if output is not None:
            output.setStreamState(ScipionSet.STREAM_OPEN)
            output.enableAppend()
            return output
        output = setClass.create(self._getPath(), template="set%s.sqlite", suffix=f"_{name}")
        source = self.inputTomograms
        if "like" in how:
            copyParticlesInfo(output, how["like"].get())
        elif issubclass(setClass, SetOfCoordinates3D):
            output.setPrecedents(source)
            output.setSamplingRate(source.get().getSamplingRate())
            output.setBoxSize(how["boxSize"])
        else:
            output.copyInfo(source.get())
        output.setStreamState(ScipionSet.STREAM_OPEN)
        output.write()
        self._defineOutputs(**{name: output})
        for pointer in self._sourcePointers():
            self._defineSourceRelation(pointer, output)
        return output

    def _fail(self, tsId: str, reason: str) -> None:
        """Keep a tomogram out of the results, and say so where it lasts."""
        logger.error(redStr(f"{tsId} failed: {reason}"))
        with self._lock:
            failures = self._failures()
            failures[tsId] = reason
            self.failures.set(json.dumps(failures, ensure_ascii=False))
            self._store(self.failures)
        source = self._tomogramOf(tsId)
        if source is None:
            return
        tomogram = Tomogram()
        tomogram.copyInfo(source)
        tomogram.setFileName(source.getFileName())
        tomogram._failure = String(reason)
        self._append(FAILED_OUTPUT, SetOfTomograms, [tomogram], tsId)

    def _failures(self) -> dict[str, str]:
        """Reason by tsId, from what is stored."""
        text = self.failures.get()
        return json.loads(text) if text else {}

    def _forgetFailures(self) -> None:
        """At the start of a run that goes on: every failed tomogram gets another chance."""
        with self._lock:
            self.failures.set(None)
            failed = getattr(self, FAILED_OUTPUT, None)
            if failed is not None:
                # Emptied, not deleted: Scipion's window would go on showing a deleted output.
                failed.load()
                failed.clear()
                failed.write()
                failed.close()
                self._store(failed)
            self._store(self.failures)


def _tsIds(output: Any) -> set[str]:
    particles = isinstance(output, SetOfSubTomograms)
    return set(ts_ids_of(output) if particles else output.getTSIds())


def copyParticlesInfo(output: Any, source: Any) -> None:
    """Give a set of coordinates or subtomograms all that it has in common with another one."""
    output.copyInfo(source)
    if isinstance(output, SetOfCoordinates3D):
        # Scipion's own copy points to the tomograms of this moment, not to the run's output.
        output._precedentsPointer.copy(source._precedentsPointer)
