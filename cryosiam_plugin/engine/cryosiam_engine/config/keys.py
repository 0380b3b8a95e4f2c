"""Every key that a CryoSiam configuration may have, and what to say about any other.

One file serves several commands (a training file is also used for prediction), so the keys of
all commands are known to each of them.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from typing import Any

from cryosiam_engine.config.yaml_file import KeyPath, YamlDocument
from cryosiam_engine.errors import ConfigurationError

logger = logging.getLogger(__name__)


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The keys of every section; a key that is itself listed here is a section.
KNOWN_KEYS: dict[KeyPath, frozenset[str]] = {
    (): _keys(
        # where things are
        "data_folder prediction_folder mask_folder log_dir temp_dir trained_model file_extension"
        " test_files parameters hyper_parameters"
        # denoising, lamella, semantic segmentation
        " scale_prediction save_raw_predictions save_internal_files save_original_file_extension"
        # instances
        " semantic_predictions semantic_foreground_labels filtering_mask_folder"
        " filtering_mask_labels filtering_mask_expand_voxels filtering_mask_extension"
        # embeddings and clustering
        " instances_mask_folder instances centers_file centers_patch_size contrastive"
        " min_particle_size max_particle_size masking_type expand_labels clustering_files"
        " clustering_kmeans clustering_spectral visualization_files visualization"
        # training and evaluation
        " labels_folder noisy_data_folder patches_folder pretrained_model train_files val_files"
        " validation_ratio continue_training labels_folder_for_filtering selected_labels"
        " filtered_labels_folder gt_folder instance_labels_folder eval_skip_prediction"
        # this engine's additions
        " clustering_hdbscan clustering_seed output_format save_confidence tiling"
        " task seed backbone patch_source"
    ),
    ("parameters",): _keys("gpu_devices nodes data network transforms"),
    ("parameters", "data"): _keys(
        "patch_size patch_overlap min max mean std remove_only_background remove_empty_patches"
        " patches_per_epoch validation_patches class_balance min_view_overlap"
    ),
    ("parameters", "network"): _keys(
        "in_channels spatial_dims out_channels n_output_channels dim dense_dim filters kernel_size"
        " padding threshold postprocessing 3d_postprocessing postprocessing_sizes min_voxels"
        " threshold_foreground boundary_bias min_center_distance max_center_distance distance_type"
        " distance_prediction use_dice_loss unfreeze_decoder unfreeze_backbone loss_type"
        " freeze_normalisation"
    ),
    ("parameters", "transforms"): _keys(
        "low_pass_sigma_range high_pass_sigma_range high_pass_sigma2_range noise_sigma_range"
        " combine_transforms use_noisy_input scale_intensity_factors elastic zoom rotate flip"
    ),
    ("hyper_parameters",): _keys(
        "batch_size cache_rate replace_rate val_interval optimizer lr momentum weight_decay"
        " max_epochs"
        " early_stopping num_workers"
    ),
    ("backbone",): _keys(
        "block_type num_layers num_filters no_max_pool fpn_channels dim pred_dim dense_dim"
        " dense_pred_dim"
    ),
    ("instances",): _keys("min max"),
    ("clustering_kmeans",): _keys("num_clusters visualization"),
    ("clustering_spectral",): _keys("num_clusters estimate_num_clusters visualization"),
    ("clustering_hdbscan",): _keys("min_cluster_size min_samples visualization"),
    ("visualization",): _keys(
        "prediction_folder distance pca_components visualization_suffix visualize_umap 3d_umap"
    ),
}

#: Keys of CryoSiam's trainings that have no effect on this engine's, and why.
WITHOUT_EFFECT: dict[KeyPath, str] = {
    ("hyper_parameters", "cache_rate"): "patches are read when they are needed, nothing is cached",
    ("hyper_parameters", "replace_rate"): "patches are read when they are needed, none is replaced",
    (
        "parameters",
        "data",
        "remove_empty_patches",
    ): "remove_only_background is what leaves patches out",
}

#: Misspelt in a configuration of CryoSiam's own tutorial, so users have it in their files.
PUBLISHED_MISSPELLINGS: dict[KeyPath, str] = {
    ("parameters", "network", "out_chanels"): "out_channels",
}


def correct_published_misspellings(document: YamlDocument) -> None:
    """Rename, in place, the keys that CryoSiam's documentation misspells; warn about each.

    Parameters
    ----------
    document
        The configuration as it was read.
    """
    for (*section, wrong), right in PUBLISHED_MISSPELLINGS.items():
        values: Any = document.values
        for name in section:
            values = values.get(name) if isinstance(values, dict) else None
        if not isinstance(values, dict) or wrong not in values or right in values:
            continue
        key = (*section, wrong)
        logger.warning("%s: %s%s is read as %s.", document.path, wrong, document.where(key), right)
        values[right] = values.pop(wrong)
        if key in document.lines:
            document.lines[(*section, right)] = document.lines.pop(key)


def validate_keys(document: YamlDocument) -> None:
    """Refuse keys that no CryoSiam command knows, with the name that was probably meant.

    Parameters
    ----------
    document
        The configuration as it was read.

    Raises
    ------
    ConfigurationError
        Naming every unknown key and every section that is not one.
    """
    problems = list(_problems(document.values, (), document))
    if problems:
        raise ConfigurationError(
            f"{document.path}: {' '.join(problems)}",
            remedy="Correct or remove it: a key that is not understood has no effect.",
        )


def _problems(values: dict[str, Any], section: KeyPath, document: YamlDocument) -> Iterator[str]:
    for name, value in values.items():
        key = (*section, str(name))
        where = document.where(key)
        if str(name) not in KNOWN_KEYS[section]:
            yield f"unknown key {'.'.join(key)}{where}.{suggestion(str(name), section)}"
        elif key in KNOWN_KEYS and isinstance(value, dict):
            yield from _problems(value, key, document)
        elif key in KNOWN_KEYS and value is not None:
            yield f"{'.'.join(key)}{where} is a section: its keys go on indented lines below it."


def suggestion(name: str, section: KeyPath) -> str:
    """Say what an unknown key was probably meant to be.

    Parameters
    ----------
    name
        The key as it was written.
    section
        The section it was written in.

    Returns
    -------
    str
        A sentence that begins with a blank, or nothing when no known key is similar.
    """
    homes = [".".join(home) for home, keys in KNOWN_KEYS.items() if name in keys]
    if homes:
        places = " or ".join(f"under {home}" if home else "at the top level" for home in homes)
        return f" It belongs {places}."
    known = sorted(KNOWN_KEYS[section])
    # The usual measure of similarity is too coarse for short keys: "mai" is nearer to "max".
    meant = [key for key in known if _one_slip_apart(name, key)]
    meant = difflib.get_close_matches(name, meant or known, n=1, cutoff=0.0 if meant else 0.6)
    return f" Did you mean {meant[0]}?" if meant else ""


def _one_slip_apart(a: str, b: str) -> bool:
    """Whether one letter was added, left out, replaced or swapped with its neighbour."""
    same = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    a, b = a[same:], b[same:]
    swapped = a[:2] == b[1::-1] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped
