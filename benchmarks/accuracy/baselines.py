"""What can be done without learning: filters, thresholds, blobs and principal components.

Each baseline's parameters are chosen on a tomogram that the models were trained on, at the very
noise level that it is then used at; and it is told where the lamella is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from cryosiam_engine.demo.scoring import MATCH_DISTANCE
from cryosiam_engine.scores import Matches, correlation, dice, match_instances, match_points
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, maximum_filter
from scipy.spatial import cKDTree
from skimage.filters import threshold_multiotsu

Volume = NDArray[np.float32]
Points = NDArray[np.float64]

SIGMAS = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
#: With two, what is brighter than the rest; with more, only the brightest.
OTSU_CLASSES = (2, 3, 4)
#: Ratio of the two widths of a difference of Gaussians: near a Laplacian's.
DOG_RATIO = 1.6
DOG_SIGMAS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
#: Smallest distance of two picks over the particle's radius.
APART = 0.8
#: Many times the particles of a tomogram.
MOST_PEAKS = 400
SMALLEST_PARTICLE = 80


@dataclass(frozen=True)
class Sample:
    """A tomogram, protein bright, and what the baselines are scored or tuned with.

    Attributes
    ----------
    tomogram, clean
        Grey values `(z, y, x)`.
    lamella
        Where there is something.
    classes, instances
        True labels; instances are particles only.
    centres
        By species, `(n, 3)` (z, y, x) in voxels.
    """

    tomogram: Volume
    clean: Volume
    lamella: NDArray[np.bool_]
    classes: NDArray[np.integer]
    instances: NDArray[np.integer]
    centres: Mapping[str, Points]


# ---- denoising and segmentation ------------------------------------------------------------------


def best_sigma(sample: Sample, score: Callable[[Sample, float], float]) -> float:
    """The width (voxels) of the Gaussian with the highest score."""
    return max(SIGMAS, key=lambda sigma: score(sample, sigma))


def gaussian_correlation(sample: Sample, sigma: float) -> float:
    """Correlation of the smoothed tomogram with the clean volume, within the lamella."""
    return correlation(sample.clean, gaussian_filter(sample.tomogram, sigma), sample.lamella)


@dataclass(frozen=True)
class Otsu:
    """A Gaussian of a width (voxels), and Otsu's threshold above so many classes less one."""

    sigma: float
    n_classes: int

    def foreground(self, sample: Sample) -> NDArray[np.bool_]:
        """The brightest class of the lamella's voxels."""
        smooth = gaussian_filter(sample.tomogram, self.sigma)
        threshold = threshold_multiotsu(smooth[sample.lamella], self.n_classes)[-1]
        return (smooth > threshold) & sample.lamella

    def dice(self, sample: Sample) -> float:
        """Of the foreground with all that is no background."""
        return dice(sample.classes > 0, self.foreground(sample))

    def matches(self, sample: Sample) -> Matches:
        """Of connected components with the particles; it is told where the membranes are."""
        foreground = self.foreground(sample) & ~binary_dilation(sample.classes == 1)
        dusted = cc3d.dust(foreground, threshold=SMALLEST_PARTICLE, connectivity=6)
        return match_instances(sample.instances, cc3d.connected_components(dusted, connectivity=6))

    def precision(self, sample: Sample) -> float:
        """Average precision of these components."""
        return self.matches(sample).average_precision


def best_otsu(sample: Sample, score: Callable[[Otsu, Sample], float]) -> Otsu:
    """The choice with the highest score."""
    choices = [Otsu(sigma, n_classes) for sigma in SIGMAS for n_classes in OTSU_CLASSES]
    return max(choices, key=lambda choice: score(choice, sample))


# ---- picking -------------------------------------------------------------------------------------


def difference_of_gaussians(tomogram: Volume, sigma: float) -> Volume:
    """Bright blobs of about the width `sigma` (voxels) become peaks."""
    return gaussian_filter(tomogram, sigma) - gaussian_filter(tomogram, sigma * DOG_RATIO)


@dataclass(frozen=True)
class Peaks:
    """Local maxima of a score map, the highest first: places `(n, 3)` and heights `(n,)`."""

    places: Points
    heights: NDArray[np.float64]

    def above(self, threshold: float) -> Points:
        """Places of those that are as high or higher."""
        return self.places[self.heights >= threshold]


def find_peaks(scores: Volume, lamella: NDArray[np.bool_], radius: float) -> Peaks:
    """Local maxima within the lamella, the highest first; the next ones keep their distance.

    Parameters
    ----------
    scores
        `(z, y, x)`.
    lamella
        Where to look.
    radius
        Of a particle, in voxels; two peaks are at least :data:`APART` radii apart.
    """
    highest = (scores == maximum_filter(scores, size=3)) & lamella
    places, heights = np.argwhere(highest).astype(np.float64), scores[highest]
    order = np.argsort(-heights, kind="stable")
    places, heights = places[order], heights[order].astype(np.float64)
    tree, free, kept = cKDTree(places), np.ones(len(places), bool), []
    for index in range(len(places)):
        if free[index]:
            kept.append(index)
            free[tree.query_ball_point(places[index], radius * APART)] = False
        if len(kept) == MOST_PEAKS:
            break
    return Peaks(places[kept], heights[kept])


def best_threshold(peaks: Peaks, truth: Points) -> tuple[float, float]:
    """The height from which on peaks give the highest F1, and that F1."""
    n_most = min(len(peaks.heights), 3 * len(truth) + 10)
    scored = [
        (match_points(truth, peaks.places[:n], MATCH_DISTANCE).f1, n) for n in range(1, n_most + 1)
    ]
    f1, n = max(scored, key=lambda pair: (pair[0], -pair[1]))
    return float(peaks.heights[n - 1]), f1


def pick_blobs(
    tuned_on: Sample, samples: Sequence[Sample], species: str, radius: float
) -> tuple[Matches, float]:
    """Pick by differences of Gaussians, width and threshold chosen on `tuned_on`.

    Returns
    -------
    tuple
        Counts over all samples, and the width (voxels).
    """
    best = (-1.0, 0.0, 0.0)
    for sigma in DOG_SIGMAS:
        peaks = find_peaks(
            difference_of_gaussians(tuned_on.tomogram, sigma), tuned_on.lamella, radius
        )
        threshold, f1 = best_threshold(peaks, tuned_on.centres[species])
        best = max(best, (f1, sigma, threshold))
    _, sigma, threshold = best
    counts = Matches(0, 0, 0)
    for sample in samples:
        scores = difference_of_gaussians(sample.tomogram, sigma)
        peaks = find_peaks(scores, sample.lamella, radius)
        counts += match_points(sample.centres[species], peaks.above(threshold), MATCH_DISTANCE)
    return counts, sigma


# ---- embeddings ----------------------------------------------------------------------------------


def kmeans_of_components(patches: NDArray[np.float32], n_clusters: int) -> NDArray[np.integer]:
    """Clusters of particles by the principal components of their voxels.

    Parameters
    ----------
    patches
        `(n, voxels)`.
    n_clusters
        How many.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    n_components = min(32, *patches.shape)
    reduced = PCA(n_components, random_state=0).fit_transform(patches)
    labels: Any = KMeans(n_clusters, n_init=10, random_state=0).fit_predict(reduced)
    return labels
