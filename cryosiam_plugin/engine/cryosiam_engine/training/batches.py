"""From samples to the batches of one process."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from cryosiam_engine.config.train import Schedule, TrainConfig
from cryosiam_engine.device import cpu_threads
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.training.datasets import TrainingSets
from cryosiam_engine.training.order import TrainingOrder, ValidationOrder

#: More workers than this do not help one GPU.
_MOST_WORKERS = 8


def reading_workers(schedule: Schedule, *, on_gpu: bool) -> int:
    """Processes that read batches ahead, by default only for a GPU; 0 for none."""
    if schedule.num_workers is not None:
        return schedule.num_workers
    return min(cpu_threads() - 1, _MOST_WORKERS) if on_gpu else 0


class TrainingData(LightningDataModule):
    """Batches for one process.

    Parameters
    ----------
    config
        Of the training.
    sets
        The samples.
    on_gpu
        Then workers prepare batches while the GPU computes.
    first_epoch
        The one that the training goes on with.
    """

    def __init__(
        self, config: TrainConfig, sets: TrainingSets, *, on_gpu: bool, first_epoch: int = 0
    ) -> None:
        super().__init__()
        self._config, self.sets = config, sets
        self._on_gpu, self._first_epoch = on_gpu, first_epoch

    def check(self, n_processes: int) -> None:
        """Refuse samples that are too few for so many processes.

        Raises
        ------
        ConfigurationError
            With their number.
        """
        size = self._config.schedule.batch_size
        n_training, n_validation = len(self.sets.training), len(self.sets.validation)  # type: ignore[arg-type]
        if n_training < size * n_processes:
            raise ConfigurationError(
                f"There are {n_training} training samples, fewer than one batch of "
                f"{size * n_processes} ({size} in each of {n_processes} processes).",
                remedy="Set hyper_parameters.batch_size to a smaller number, or give more "
                "tomograms or patches.",
            )
        if n_validation < n_processes:
            raise ConfigurationError(
                f"There are {n_validation} validation samples, fewer than the {n_processes} "
                "processes.",
                remedy="Use fewer processes, or raise validation_ratio.",
            )

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of one epoch; what does not fill a batch is left out."""
        n_samples = len(self.sets.training)  # type: ignore[arg-type]
        size = self._config.schedule.batch_size
        order = TrainingOrder(n_samples, size, self._rank, self._processes, self._first_epoch)
        return DataLoader(self.sets.training, sampler=order, drop_last=True, **self._options())

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation samples, always the same."""
        n_samples = len(self.sets.validation)  # type: ignore[arg-type]
        order = ValidationOrder(n_samples, self._rank, self._processes)
        return DataLoader(self.sets.validation, sampler=order, **self._options())

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _processes(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _options(self) -> dict[str, Any]:
        n_workers = reading_workers(self._config.schedule, on_gpu=self._on_gpu)
        return {
            "batch_size": self._config.schedule.batch_size,
            "num_workers": n_workers,
            "pin_memory": self._on_gpu,
            "persistent_workers": n_workers > 0,
        }
