"""The form of the clustering protocol."""

from __future__ import annotations

from typing import Any

from pyworkflow.protocol.constants import LEVEL_ADVANCED
from pyworkflow.protocol.params import (
    GE,
    GT,
    BooleanParam,
    EnumParam,
    IntParam,
    PointerParam,
)
from pyworkflow.utils import Message

#: As the engine calls them, in the order of the form.
KINDS = ["kmeans", "spectral", "hdbscan"]
METHODS = ["k-means", "spectral", "HDBSCAN"]
KMEANS, SPECTRAL, HDBSCAN = range(3)


def defineClusterParams(form: Any) -> None:
    """Input, method and its parameters, representatives."""
    form.addSection(label=Message.LABEL_INPUT)
    form.addParam(
        "inputEmbeddings",
        PointerParam,
        pointerClass="CryosiamEmbeddings",
        important=True,
        label="Embeddings",
        help="The output of _subtomogram embeddings_. It knows its particles and tomograms.",
    )
    form.addParam(
        "method",
        EnumParam,
        choices=METHODS,
        default=KMEANS,
        display=EnumParam.DISPLAY_HLIST,
        label="Method",
        help="*k-means*: compact groups, as many as you say; quick.\n*spectral*: groups of any "
        "form that hang together, by who is whose neighbour; it can estimate how many there "
        "are.\n*HDBSCAN*: dense groups, as many as there are; what lies between them is in no "
        "cluster.",
    )
    _defineMethods(form)
    form.addParam(
        "representativesPerCluster",
        IntParam,
        default=10,
        validators=[GE(1, error="must be 1 or more")],
        label="Representatives of each cluster",
        help="So many particles of each cluster, those nearest to its centre, go into a set of "
        "their own to be looked at.",
    )


def _defineMethods(form: Any) -> None:
    form.addParam(
        "numberOfClusters",
        IntParam,
        default=10,
        condition=f"method!={HDBSCAN}",
        validators=[GT(1, error="must be 2 or more")],
        label="Number of clusters",
        help="Rather too many than too few: clusters can be put together afterwards. Where "
        "the number is estimated, the largest that is thought of.",
    )
    form.addParam(
        "estimateNumber",
        BooleanParam,
        default=False,
        condition=f"method=={SPECTRAL}",
        label="Estimate the number?",
        help="Takes the number after which the spectrum of the particles' neighbourhoods has "
        "its largest gap.",
    )
    _defineDensityParams(form)
    form.addParam(
        "seed",
        IntParam,
        default=0,
        validators=[GE(0, error="must be 0 or more")],
        expertLevel=LEVEL_ADVANCED,
        label="Seed",
        help="Of the random numbers. Another seed gives other clusters where they are not "
        "clear: try some to see how far you can believe them.",
    )


def _defineDensityParams(form: Any) -> None:
    form.addParam(
        "minimumClusterSize",
        IntParam,
        default=20,
        condition=f"method=={HDBSCAN}",
        validators=[GT(1, error="must be 2 or more")],
        label="Smallest cluster (particles)",
        help="Smaller groups are no clusters. The larger it is, the fewer clusters there are.",
    )
    form.addParam(
        "minimumSamples",
        IntParam,
        default=0,
        condition=f"method=={HDBSCAN}",
        validators=[GE(0, error="must be 0 or more")],
        expertLevel=LEVEL_ADVANCED,
        label="Neighbours of a dense place",
        help="The larger it is, the more particles are in no cluster. 0: the same as the "
        "smallest cluster.",
    )
