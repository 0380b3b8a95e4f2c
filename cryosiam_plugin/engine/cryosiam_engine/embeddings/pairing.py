"""Whether an embedding model fits what it is used for."""

from __future__ import annotations

from cryosiam_engine.config.embeddings import EmbeddingConfig
from cryosiam_engine.errors import CheckpointError, ConfigurationError
from cryosiam_engine.models import find_model
from cryosiam_engine.networks import ModelDescription


def check_description(config: EmbeddingConfig, description: ModelDescription) -> None:
    """Refuse a checkpoint that cannot do what is asked of it.

    Parameters
    ----------
    config
        Names the checkpoint and, if it says so, the width of its embeddings.
    description
        Of the checkpoint.

    Raises
    ------
    CheckpointError
        When it is not for tomograms.
    ConfigurationError
        When its embeddings have another width.
    """
    network = description.backbone
    if network.spatial_dims != 3 or network.in_channels != 1:
        raise CheckpointError(
            f"{config.trained_model} embeds {network.spatial_dims}D images of "
            f"{network.in_channels} channels, not sub-tomograms.",
            remedy="Set trained_model to an embedding model for tomograms.",
        )
    if config.dim not in (None, network.dim):
        raise ConfigurationError(
            f"parameters.network.dim is {config.dim}, but the embeddings of "
            f"{config.trained_model} have {network.dim} numbers.",
            remedy=f"Set dim: {network.dim}, or leave the key out.",
        )


def pairing_warnings(
    config: EmbeddingConfig, description: ModelDescription, masking_type: int
) -> list[str]:
    """Say what speaks against a checkpoint for what is asked of it.

    Parameters
    ----------
    config
        Names the checkpoint and the kind of embedding.
    description
        Of the checkpoint.
    masking_type
        How sub-tomograms will be masked: 0 for those around centres.
    """
    name, warnings = config.trained_model.name, []
    if config.contrastive != description.contrastive:
        kind = "a contrastively trained" if description.contrastive else "a plain"
        warnings.append(
            f"WRONG PAIRING: {name} is {kind} model, but contrastive is {config.contrastive}: the "
            f"embeddings mean little. Set contrastive: {description.contrastive}."
        )
    try:
        published = find_model(config.trained_model)
    except ConfigurationError:  # a model of the user's own: nothing is known about it
        return warnings
    if published.masking_type not in (None, masking_type):
        warnings.append(
            f"WRONG PAIRING: {name} was trained on sub-tomograms of masking_type "
            f"{published.masking_type}, but these have masking_type {masking_type}: the "
            "embeddings mean little. Take the published model for this masking_type."
        )
    return warnings
