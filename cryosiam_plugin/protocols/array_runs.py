"""How a protocol computes its tomograms as job arrays on Slurm."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryosiam_plugin.launcher import engine_command
from cryosiam_plugin.protocols.array_batch import ArrayBatch, Inbox
from cryosiam_plugin.protocols.array_report import array_lines
from cryosiam_plugin.protocols.array_stage import ArrayStage, active_runs, end_runs
from cryosiam_plugin.protocols.engine_batch import Stage
from cryosiam_plugin.protocols.part import ProtocolPart
from cryosiam_plugin.protocols.slurm_form import (
    FORM,
    ON_SLURM,
    job_settings,
    launch_settings,
    slurm_problems,
    slurm_warnings,
)
from cryosiam_plugin.protocols.slurm_refusals import with_fields
from cryosiam_plugin.slurm_core import Journal, SlurmError, SlurmPrograms, SlurmRun


class ArrayRuns(ProtocolPart):
    """Mixed into a protocol that has the form's part about Slurm."""

    if TYPE_CHECKING:

        def _commands(self) -> list[str]: ...

        def _stages(self) -> list[Stage]: ...

        def _linked(self, tsIds: list[str]) -> list[str]: ...

        def _engineOptions(self, command: str) -> list[str]: ...

        def _runsNetwork(self, command: str) -> bool: ...

        def _launchSettings(self) -> Any: ...

        def _readFiles(self, tsIds: list[str]) -> list[Path]: ...

        def _onDone(self, tsId: str, first: Any, last: Any) -> None: ...

        def _fail(self, tsId: str, reason: str) -> None: ...

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._inbox = Inbox()

    def _usesArray(self) -> bool:
        return bool(self.whereToRun.get() == ON_SLURM)

    def predictOnSlurmStep(self) -> None:
        """Have Slurm compute all tomograms; register each as soon as it is done."""
        programs = SlurmPrograms()
        stages = [
            ArrayStage(stage, self._arraysFolder() / stage.command, self._newJournal, programs)
            for stage in self._stages()
        ]
        try:
            ArrayBatch(stages, self._inbox, self._linked, self._onDone, self._fail).run()
        except SlurmError as error:
            raise SlurmError(with_fields(error, FORM)) from error

    def _newJournal(self, command: str, tsIds: list[str]) -> Journal:
        """How tomograms are to be computed by the tasks of an array."""
        use_gpu = self._runsNetwork(command) and self.usesGpu()
        work_folder = Path(self._getPath()).absolute()
        line = engine_command(
            launch_settings(self, self._launchSettings()),
            [],
            work_folder=work_folder,
            inputs=self._readFiles(tsIds),
            use_gpu=use_gpu,
            scheduler_owns_gpu=True,
        )
        return Journal(
            # Jobs are told apart by their names, in all projects of a user.
            name=f"cryosiam-{self.strId()}-{command}-{secrets.token_hex(4)}",
            command=command,
            options=self._engineOptions(command),
            engine=line.shell_line,
            work_folder=str(Path.cwd()),
            status_folder=str(Stage.of(command, self._predictionFolder()).folder),
            settings=job_settings(self, use_gpu=use_gpu),
            per_task=self.tomogramsPerProcess.get() or 1,
            retries=self.slurmRetries.get(),
        )

    def _arraysFolder(self) -> Path:
        return Path(self._getExtraPath("slurm")).absolute()

    def _endArrays(self, seconds: float) -> None:
        """End what an earlier run left in Slurm: it computes what is not wanted any more.

        Raises
        ------
        SlurmError
            When it goes on all the same.
        """
        end_runs(self._activeRuns(), seconds)

    def _activeRuns(self) -> list[SlurmRun]:
        programs = SlurmPrograms()
        folders = self._arraysFolder().glob("*")
        return [run for folder in folders for run in active_runs(folder, programs)]

    def _cancelJobs(self) -> None:
        failed: list[Exception] = []
        for run in self._activeRuns():
            try:
                run.cancel()
            except (SlurmError, OSError) as error:
                failed.append(error)
        super()._cancelJobs()
        if failed:
            raise failed[0]

    def _endJobs(self, seconds: float) -> None:
        self._endArrays(seconds)
        super()._endJobs(seconds)

    def _problems(self) -> list[str]:
        problems = super()._problems()
        return problems + (slurm_problems(self) if self._usesArray() else [])

    def _warnings(self) -> list[str]:
        warnings = super()._warnings()
        return warnings + (slurm_warnings(self) if self._usesArray() else [])

    def _summary(self) -> list[str]:
        lines = super()._summary()
        if not self._usesArray():
            return lines
        said = array_lines(self._arraysFolder(), self._commands(), is_followed=self.isActive())
        return [*lines, "", *said] if said else lines
