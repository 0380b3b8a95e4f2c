"""How particles are turned: Scipion's matrices, RELION's angles."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from cryosiam_plugin.convert.embeddings import coordinate_of


def orientation_of(particle: Any) -> tuple[np.ndarray, np.ndarray]:
    """How a particle is turned, and where its centre is from its coordinate.

    Scipion's matrix M takes a point r of the particle to the average: particle(r) = average(M r).

    Parameters
    ----------
    particle
        A coordinate or subtomogram.

    Returns
    -------
    rotation : numpy.ndarray
        `(3, 3)`; of x, y, z.
    shift : numpy.ndarray
        x, y, z of the average's origin, in voxels of the particle's set.
    """
    is_coordinate = coordinate_of(particle) is particle
    if is_coordinate:
        matrix = particle.getMatrix()
    else:
        transform = particle.getTransform()
        matrix = transform.getMatrix() if transform is not None else None
    if matrix is None:
        return np.eye(3), np.zeros(3)
    matrix = np.asarray(matrix, dtype=np.float64)
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    if not translation.any():
        return rotation, np.zeros(3)
    return rotation, -np.linalg.solve(rotation, translation)


def relion_angles(rotation: Sequence[Sequence[float]] | np.ndarray) -> tuple[float, float, float]:
    """RELION's rot, tilt and psi, in degrees, of a particle's rotation.

    Parameters
    ----------
    rotation
        As :func:`orientation_of` gives it: Rz(rot) Ry(tilt) Rz(psi), as RELION has it.

    Raises
    ------
    ValueError
        When it is no rotation but mirrors or deforms.
    """
    matrix = np.asarray(rotation, dtype=np.float64)
    if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3) or np.linalg.det(matrix) < 0:
        raise ValueError("A particle's orientation is no rotation: it mirrors or deforms.")
    rot = np.arctan2(matrix[1, 2], matrix[0, 2])
    tilt = np.arctan2(np.hypot(matrix[0, 2], matrix[1, 2]), matrix[2, 2])
    # What is left once these two are taken off. Where tilt is 0 or 180 rot is any angle, and this
    # one goes with it.
    cosine, sine = np.cos(rot), np.sin(rot)
    across = -sine * matrix[0] + cosine * matrix[1]
    psi = np.arctan2(across[0], across[1])
    return float(np.degrees(rot)), float(np.degrees(tilt)), float(np.degrees(psi))
