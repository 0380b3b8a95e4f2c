"""A training that begins anew leaves nothing of an earlier one that could be gone on from."""

from __future__ import annotations

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import output_error
from cryosiam_engine.training.checkpoints import BEST, LAST, half_written, models_folder
from cryosiam_engine.training.metrics import EPOCHS_FILE, STEPS_FILE


def begin_anew(config: TrainConfig) -> None:
    """Remove the checkpoints, also half-written ones, and the learning curves in ``log_dir``.

    Without that, a training that is killed in its first epoch would later go on from the last
    epoch of another one.

    Parameters
    ----------
    config
        Of the training that begins.

    Raises
    ------
    ConfigurationError
        When ``pretrained_model`` is one of the checkpoints.
    OutputError
        When the system refuses to remove them.
    """
    log_dir = config.prediction_folder
    models = models_folder(log_dir)
    check_not_replaced(config)
    old = [models / BEST, models / LAST, log_dir / STEPS_FILE, log_dir / EPOCHS_FILE]
    for path in [*old, *half_written(log_dir)]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(error, path) from error


def check_not_replaced(config: TrainConfig) -> None:
    """Refuse to begin with a model that the training itself will replace.

    Raises
    ------
    ConfigurationError
        Naming the model.
    """
    given, models = config.pretrained_model, models_folder(config.prediction_folder)
    if given is None:
        return
    if given.resolve() in [(models / name).resolve() for name in (BEST, LAST)]:
        raise ConfigurationError(
            f"pretrained_model is {given}, which this training would replace.",
            remedy="Choose another log_dir, or copy the model and give the copy; to go on with "
            "the training that it is of, set continue_training to True.",
        )
