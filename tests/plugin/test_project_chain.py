"""Workflow 1 as a scheduled chain, and what Scipion's own protocols make of its results.

Every member but the first is scheduled before there is anything for it to work on. At each
hand-over voxel size, size and origin are those of the tomograms, in Scipion's objects and in the
files' headers, and every particle lies on its own component of the labels.
"""

from __future__ import annotations

import csv
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipion_projects import VOXEL_SIZE, Project, said, voxels
from scipy import ndimage

pytestmark = pytest.mark.slow

SHAPE = (32, 64, 64)
TS_IDS = ["TS_01", "TS_02", "TS_03"]
BOX = 12
MINIMUM_VOXELS = 5


@pytest.fixture(scope="module")
def chain(domain, engine_python):
    """The whole workflow, finished: protocols by short name."""
    project = Project("chain", engine_python)
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    members = schedule(project, simulated_tomograms(3, SHAPE), small_models())
    for protocol in members.values():
        project.finished(protocol, seconds=400)
    return members


def schedule(project, tomograms, models):
    """Make and schedule all members; only then does the import begin."""
    from pwem.protocols import ProtSetFilter, ProtSubSet
    from tomo.protocols import (
        ProtExportCoordinates3D,
        ProtImportTomograms,
        ProtTomoApplyTomoMask,
        ProtTomoExtractCoords,
    )

    from cryosiam_plugin.protocols import (
        ProtCryosiamDenoise,
        ProtCryosiamImportModel,
        ProtCryosiamLamella,
        ProtCryosiamParticles,
        ProtCryosiamSemantic,
    )

    def network(name):
        file = str(models / f"demo_{name}.ckpt")
        return {"modelSource": 1, "modelFile": file, "useGpu": False, "numberOfThreads": 3}

    members = {}

    def add(name, protocol_class, **parameters):
        members[name] = project.new(protocol_class, **parameters)
        project.scipion.saveProtocol(members[name])
        return members[name]

    pattern = {"filesPath": str(tomograms), "filesPattern": "TS_*.mrc"}
    raw = add("raw", ProtImportTomograms, samplingRate=VOXEL_SIZE, **pattern)
    coarse = add("coarse", ProtImportTomograms, samplingRate=2 * VOXEL_SIZE, **pattern)
    imported = add(
        "model",
        ProtCryosiamImportModel,
        modelFile=str(models / "demo_semantic.ckpt"),
        classNames="membrane, ribosome, proteasome",
        voxelSize=VOXEL_SIZE,
    )
    denoised = add(
        "denoised", ProtCryosiamDenoise, inputTomograms=(raw, "Tomograms"), **network("denoising")
    )
    tomograms = (denoised, "denoisedTomograms")
    lamella = add(
        "lamella",
        ProtCryosiamLamella,
        inputTomograms=tomograms,
        threshold=0.2,
        **network("lamella"),
    )
    masks = (lamella, "lamellaMasks")
    from_model = {"modelSource": 2, "modelObject": (imported, "model")}
    add(
        "semantic",
        ProtCryosiamSemantic,
        inputTomograms=tomograms,
        inputMasks=masks,
        threshold=0.3,
        minimumSizes="1: 3",
        **{**network("semantic"), **from_model},
    )
    particles = add(
        "particles",
        ProtCryosiamParticles,
        inputTomograms=tomograms,
        inputMasks=masks,
        threshold=0.3,
        minimumVoxels=MINIMUM_VOXELS,
        boxSize=BOX,
        **{**network("semantic"), **from_model},
    )
    coordinates = (particles, "coordinates")
    add("exported", ProtExportCoordinates3D, inputCoordinates=coordinates)
    add(
        "rescaled",
        ProtTomoExtractCoords,
        inputSubTomos=coordinates,
        inputTomos=(coarse, "Tomograms"),
        boxSize=BOX,
    )
    add(
        "ribosomes",
        ProtSetFilter,
        inputSet=coordinates,
        formula="item._className.get() == 'ribosome'",
    )
    add(
        "masked",
        ProtTomoApplyTomoMask,
        inTomoSet=tomograms,
        inMaskSet=masks,
        sigmaGaussian=0,
    )
    add(
        "subset",
        ProtSubSet,
        inputFullSet=tomograms,
        chooseAtRandom=True,
        nElements=2,
    )
    for protocol in members.values():
        project.scipion.scheduleProtocol(protocol)
    return members


def by_ts_id(output):
    found = {item.getTsId(): item.clone() for item in output.iterItems()}
    output.close()
    return found


@pytest.mark.parametrize(
    ("member", "output"),
    [
        ("denoised", "denoisedTomograms"),
        ("lamella", "lamellaMasks"),
        ("semantic", "semanticMasks"),
        ("particles", "semanticMasks"),
    ],
)
def test_geometry_is_the_input_s_at_every_hand_over(chain, member, output):
    result = getattr(chain[member], output)
    assert result.getSamplingRate() == pytest.approx(VOXEL_SIZE), said(chain[member])
    items, sources = by_ts_id(result), by_ts_id(chain["raw"].Tomograms)
    assert sorted(items) == TS_IDS
    for ts_id, item in items.items():
        source = sources[ts_id]
        assert item.getSamplingRate() == pytest.approx(VOXEL_SIZE)
        assert item.getDim() == source.getDim() == SHAPE[::-1]
        assert item.getShiftsFromOrigin() == source.getShiftsFromOrigin()
        assert not item.hasHalfMaps()
        with mrcfile.open(item.getFileName(), header_only=True) as mrc:
            header = mrc.voxel_size
            assert (header.x, header.y, header.z) == pytest.approx([VOXEL_SIZE] * 3, rel=1e-4)


def test_masks_restrict_the_segmentation(chain):
    lamellae = by_ts_id(chain["lamella"].lamellaMasks)
    for ts_id, mask in by_ts_id(chain["semantic"].semanticMasks).items():
        labels, lamella = voxels(mask), voxels(lamellae[ts_id])
        assert set(np.unique(lamella)) <= {0, 1}
        assert labels.any()
        assert not labels[lamella == 0].any()


def test_every_particle_lies_on_its_component(chain):
    """The centre of mass of a component of its class, found again by other means."""
    from cryosiam_plugin.convert import index_of

    labels = {t: voxels(mask) for t, mask in by_ts_id(chain["particles"].semanticMasks).items()}
    components = {}
    number = 0
    for coordinate in chain["particles"].coordinates.iterCoordinates():
        key = (coordinate.getTomoId(), coordinate.getGroupId())
        if key not in components:
            components[key] = centres_of(labels[key[0]] == key[1])
        distances = np.abs(components[key] - np.array(index_of(coordinate))).max(axis=1)
        assert distances.min() < 1e-3, f"{coordinate} is no component's centre"
        assert coordinate.getVolume().getTsId() == key[0]
        number += 1
    assert number == sum(len(centres) for centres in components.values()) > 0


def centres_of(mask):
    """Centres of mass (z, y, x) of the eroded mask's components of more than the minimum size."""
    found, n_found = ndimage.label(
        ndimage.binary_erosion(mask, border_value=1), structure=np.ones((3, 3, 3))
    )
    sizes = np.bincount(found.reshape(-1), minlength=n_found + 1)
    kept = [i for i in range(1, n_found + 1) if sizes[i] > MINIMUM_VOXELS]
    return np.array(ndimage.center_of_mass(found > 0, found, kept)).reshape(-1, 3)


def test_coordinates_carry_what_averaging_needs(chain):
    coordinates = chain["particles"].coordinates
    assert coordinates.getBoxSize() == BOX
    assert coordinates.getSamplingRate() == pytest.approx(VOXEL_SIZE)
    names = {1: "membrane", 2: "ribosome", 3: "proteasome"}
    for coordinate in coordinates.iterCoordinates():
        assert coordinate._className.get() == names[coordinate.getGroupId()]
        assert coordinate._nVoxels.get() > MINIMUM_VOXELS


def test_exported_text_has_the_voxel_indices(chain):
    from cryosiam_plugin.convert import index_of

    expected = {}
    for coordinate in chain["particles"].coordinates.iterCoordinates(orderBy="_tomoId"):
        z, y, x = (int(index) for index in index_of(coordinate))
        expected.setdefault(coordinate.getTomoId(), []).append([x, y, z])
    for ts_id, positions in expected.items():
        path = Path(chain["exported"]._getPath("Export", f"{ts_id}.txt"))
        with path.open() as file:
            rows = [[int(v) for v in row] for row in csv.reader(file, delimiter=" ")]
        assert rows == positions


def test_extraction_at_another_binning_scales(chain):
    ours = positions_of(chain["particles"].coordinates)
    output = next(output for _, output in chain["rescaled"].iterOutputAttributes())
    assert output.getSamplingRate() == pytest.approx(2 * VOXEL_SIZE)
    theirs = positions_of(output)
    assert len(ours) > 0
    np.testing.assert_allclose(theirs, ours / 2, atol=1e-4)


def positions_of(coordinates):
    """Positions from the tomogram's centre, in an order that does not depend on the set."""
    found = sorted(
        (c.getTomoId(), c.getGroupId(), c._x.get(), c._y.get(), c._z.get())
        for c in coordinates.iterItems()
    )
    return np.array([position for _, _, *position in found])


def test_filter_by_class_name(chain):
    output = next(output for _, output in chain["ribosomes"].iterOutputAttributes())
    names = [c._className.get() for c in output.iterItems()]
    everything = [c._className.get() for c in chain["particles"].coordinates.iterItems()]
    assert names == ["ribosome"] * everything.count("ribosome")
    assert names


def test_apply_mask_uses_our_masks(chain):
    masks = by_ts_id(chain["lamella"].lamellaMasks)
    denoised = by_ts_id(chain["denoised"].denoisedTomograms)
    for ts_id, item in by_ts_id(chain["masked"].maskedTomograms).items():
        np.testing.assert_allclose(voxels(item), voxels(denoised[ts_id]) * voxels(masks[ts_id]))


def test_subset_keeps_the_items(chain):
    output = next(output for _, output in chain["subset"].iterOutputAttributes())
    assert output.getSize() == 2
    sources = by_ts_id(chain["denoised"].denoisedTomograms)
    for ts_id, item in by_ts_id(output).items():
        assert item.getFileName() == sources[ts_id].getFileName()
        assert item.getShiftsFromOrigin() == sources[ts_id].getShiftsFromOrigin()


def test_runs_can_be_repeated_from_their_folder(chain):
    for name in ("denoised", "lamella", "semantic", "particles"):
        extra = Path(chain[name]._getExtraPath())
        assert (extra / "run.yaml").is_file()
        commands = sorted(extra.glob("engine/*.sh"))
        assert commands
        assert str((extra / "run.yaml").absolute()) in commands[0].read_text()


def test_methods_name_model_and_checksum(chain):
    from cryosiam_plugin.protocols.checkpoint_summary import sha256_of

    digest = sha256_of(chain["model"].model.getPath())
    methods = "\n".join(chain["semantic"].methods())
    assert digest in methods
    assert "Stojanovska" in methods
    assert chain["model"].model.getSha256() == digest
