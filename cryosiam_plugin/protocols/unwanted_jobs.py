"""Jobs in a queue that nobody wants any more: of a run that is stopped, deleted or begun anew."""

from __future__ import annotations

import logging
from pathlib import Path

from cryosiam_plugin.protocols.job_records import live_jobs
from cryosiam_plugin.protocols.part import ProtocolPart
from cryosiam_plugin.protocols.queue_commands import QueueCommands, within
from cryosiam_plugin.protocols.queue_waiting import cancel_jobs, end_jobs
from cryosiam_plugin.slurm_core import SlurmError

logger = logging.getLogger(__name__)

#: Seconds that somebody waits who has pressed a button.
BUTTON_SECONDS = 15.0


class UnwantedJobs(ProtocolPart):
    """Mixed into a protocol that may have jobs in a queue."""

    def _recordsFolder(self) -> Path:
        """Where every engine process of the run has its records."""
        return Path(self._getExtraPath("engine")).absolute()

    def _cancelJobs(self) -> None:
        """Cancel all that the protocol has in a queue, without waiting for its end.

        Raises
        ------
        SlurmError
            When the queue does not answer.
        """
        jobs = live_jobs(self._recordsFolder())
        if jobs:
            cancel_jobs(QueueCommands(self.getHostConfig()), jobs)

    def _endJobs(self, seconds: float) -> None:
        """Cancel all that the protocol has in a queue, and wait until nothing is left.

        Raises
        ------
        SlurmError
            When it goes on all the same, or nobody knows.
        """
        self._endStepJobs(seconds)

    def _endStepJobs(self, seconds: float) -> None:
        """Do that for the jobs of the steps."""
        jobs = live_jobs(self._recordsFolder())
        if jobs:
            end_jobs(QueueCommands(self.getHostConfig()), jobs, seconds)

    def setAborted(self) -> None:
        """Stop: called by whoever stopped the protocol, whose process is dead by now."""
        super().setAborted()
        try:
            if not within(BUTTON_SECONDS, self._cancelJobs):
                logger.warning("The queue is slow to answer; the jobs are cancelled when it does.")
        except (SlurmError, OSError) as error:
            # Continue ends them first, if they still run by then.
            logger.error("Jobs of this protocol could not be cancelled: %s", error)

    def cleanWorkingDir(self) -> None:
        """Remove all files, once no job is left that would write into them.

        Raises
        ------
        SlurmError
            When there are still jobs; nothing is removed then.
        """
        try:
            if not within(BUTTON_SECONDS, lambda: self._endJobs(BUTTON_SECONDS)):
                raise SlurmError("The queue does not answer.")
        except (SlurmError, OSError) as error:
            message = (
                f"Nothing was deleted: jobs of this run may still write into {self._getPath()}. "
                f"{error} Try again in a minute. If they are long gone, remove its folders "
                "extra/slurm and extra/engine first."
            )
            self._keepRun(message)
            raise SlurmError(message) from error
        super().cleanWorkingDir()

    def _keepRun(self, message: str) -> None:
        """Have Scipion know the run as it did before somebody wanted to delete it."""
        if self.isActive():
            self.setFailed(message)  # it was about to be started anew
            self._store(self.status, self._error)
        elif self.mapper is not None:
            # The run is deleted from the project's database by now, but not for good.
            self.mapper.db.connection.rollback()
