"""From a stream of sub-tomograms to their embeddings, batch by batch, in the memory there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config.embeddings import EmbeddingConfig
from cryosiam_engine.dense import RunOptions, choose_computation
from cryosiam_engine.device import free_memory, is_out_of_memory
from cryosiam_engine.embeddings.network import EmbeddingNetwork
from cryosiam_engine.embeddings.pairing import check_description, pairing_warnings
from cryosiam_engine.embeddings.patches import Shape
from cryosiam_engine.errors import DeviceError
from cryosiam_engine.networks import SimSiam, describe, load_network
from cryosiam_engine.sliding_window import Progress, Tiling

logger = logging.getLogger(__name__)

#: Share of the device's free memory that a batch may take as estimated; on a CPU the tomograms
#: need the rest.
_MEMORY_SHARE = {"cuda": 0.8, "cpu": 0.3}


@dataclass
class EmbeddingModel:
    """An embedding network on its device, and where it came from.

    Attributes
    ----------
    network
        Already on `device`, its encoder in `dtype`.
    device, dtype, precision
        Where and in which arithmetic the encoder computes.
    tiling
        ``reference`` to cut sub-tomograms as the original does, where ours would be larger.
    patch_size
        Voxels (z, y, x) of a sub-tomogram.
    batch_size
        Sub-tomograms at once at most. Lowered when memory runs out.
    name, sha256
        Of the checkpoint.
    warnings
        What speaks against this checkpoint for this use.
    """

    network: EmbeddingNetwork
    device: torch.device
    dtype: torch.dtype
    precision: str
    tiling: Tiling
    patch_size: Shape
    batch_size: int
    name: str
    sha256: str
    warnings: tuple[str, ...] = ()

    @torch.inference_mode()
    def embed(
        self,
        patches: Iterator[NDArray[np.float32]],
        count: int,
        progress: Progress = lambda done, total: None,
    ) -> NDArray[np.float32]:
        """Embed a stream of sub-tomograms; of these only a batch is held at a time.

        Parameters
        ----------
        patches
            `count` arrays of `patch_size`.
        count
            How many there are.
        progress
            Told after each batch how many are finished.

        Returns
        -------
        numpy.ndarray
            float32 `(count, dim)`.

        Raises
        ------
        DeviceError
            When not even a single sub-tomogram fits in the device's memory.
        """
        embeddings = np.empty((count, self.network.dim), np.float32)
        done, waiting = 0, list[NDArray[np.float32]]()
        progress(0, count)
        computed: tuple[int, Tensor] | None = None
        while waiting or done < count:
            waiting += islice(patches, max(0, self.batch_size - len(waiting)))
            vectors = self._run(np.stack(waiting[: self.batch_size])[:, None])
            # A GPU computes this batch while the one before is fetched and the next is cut.
            if computed:
                self._store(embeddings, *computed)
            del waiting[: len(vectors)]
            computed = (done, vectors)
            done += len(vectors)
            progress(done, count)
        if computed:
            self._store(embeddings, *computed)
        return embeddings

    @staticmethod
    def _store(embeddings: NDArray[np.float32], first: int, vectors: Tensor) -> None:
        embeddings[first : first + len(vectors)] = vectors.cpu().numpy()

    def _run(self, batch: NDArray[np.float32]) -> Tensor:
        """Embed as many of the first sub-tomograms as memory allows, at most `batch_size`."""
        while True:
            try:
                on_device = torch.from_numpy(batch[: self.batch_size]).to(
                    self.device, self.dtype, memory_format=torch.channels_last_3d
                )
                vectors: Tensor = self.network(on_device)
                return vectors
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(min(len(batch), self.batch_size), error)

    def _shrink(self, tried: int, error: BaseException) -> None:
        # The failed tensors are still referenced by the traceback's frames.
        error.__traceback__ = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            raise DeviceError(
                f"A single sub-tomogram of {self.patch_size} voxels does not fit in the memory "
                f"of {self.device}.",
                remedy="Free the memory that other programs use, take a device with more of it, "
                "use --device cpu, or lower parameters.data.patch_size.",
            ) from error
        self.batch_size = tried // 2
        logger.warning(
            "Out of memory on %s with %d sub-tomograms at once: going on with %d.",
            self.device,
            tried,
            self.batch_size,
        )


def load_embedding_model(
    config: EmbeddingConfig, options: RunOptions, *, masking_type: int
) -> EmbeddingModel:
    """Load an embedding checkpoint safely and put its network on the device.

    Parameters
    ----------
    config
        Names the checkpoint, the kind of embedding, the patch and the batch.
    options
        Device, precision and tiling.
    masking_type
        How sub-tomograms will be masked; warned about if the model is made for another.

    Raises
    ------
    CheckpointError
        When the file cannot be loaded, or is not an embedding model for tomograms.
    ConfigurationError
        When ``parameters.network.dim`` is not the width of its embeddings.
    DeviceError
        When the device or the precision asked for is not to be had.
    """
    device, precision = choose_computation(options)
    checkpoint = load_checkpoint(config.trained_model)
    simsiam = cast(SimSiam, load_network(checkpoint, "embedding"))
    description = describe(checkpoint)
    check_description(config, description)
    network = EmbeddingNetwork(simsiam, contrastive=config.contrastive).to(device)
    network.encoder.to(  # type: ignore[call-overload]
        dtype=precision.dtype, memory_format=torch.channels_last_3d
    )
    batch_size = _affordable(network, config, device, precision.dtype.itemsize)
    logger.info(
        "Model %s (sha256 %.12s) on %s in %s, %d sub-tomograms at once.",
        config.trained_model.name,
        checkpoint.sha256,
        device,
        precision.name,
        batch_size,
    )
    return EmbeddingModel(
        network=network,
        device=device,
        dtype=precision.dtype,
        precision=precision.name,
        tiling=options.tiling,
        patch_size=config.patch_size,
        batch_size=batch_size,
        name=config.trained_model.name,
        sha256=checkpoint.sha256,
        warnings=tuple(pairing_warnings(config, description, masking_type)),
    )


def _affordable(
    network: EmbeddingNetwork, config: EmbeddingConfig, device: torch.device, element_size: int
) -> int:
    """The configured batch, or less where its activations would not fit."""
    per_patch = math.prod(config.patch_size) * network.bytes_per_voxel(element_size)
    fitting = int(_MEMORY_SHARE.get(device.type, 0.5) * free_memory(device) / per_patch)
    return max(1, min(config.batch_size, fitting))
