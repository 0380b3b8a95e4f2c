"""The networks of CryoSiam: described by a checkpoint, built, loaded and prepared for inference."""

from __future__ import annotations

from cryosiam_engine.networks.build import build_network, load_network, published_state_dict
from cryosiam_engine.networks.dense_simsiam import DenseSimSiam
from cryosiam_engine.networks.describe import describe, read_description
from cryosiam_engine.networks.description import (
    BackboneDescription,
    EncoderDescription,
    HeadDescription,
    ModelDescription,
)
from cryosiam_engine.networks.heads import DenseModel
from cryosiam_engine.networks.inference import InferenceNetwork, prepare_for_inference
from cryosiam_engine.networks.random_weights import random_checkpoint
from cryosiam_engine.networks.simsiam import SimSiam

__all__ = [
    "BackboneDescription",
    "DenseModel",
    "DenseSimSiam",
    "EncoderDescription",
    "HeadDescription",
    "InferenceNetwork",
    "ModelDescription",
    "SimSiam",
    "build_network",
    "describe",
    "load_network",
    "prepare_for_inference",
    "published_state_dict",
    "random_checkpoint",
    "read_description",
]
