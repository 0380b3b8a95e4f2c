"""What must hold at every hand-over of a finished workflow, whatever the tomograms are.

At each of them voxel size, size and origin are those of the tomograms, in Scipion's objects and
in the files' headers, and every particle lies on its own component of the labels.
"""

from __future__ import annotations

import csv
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipion_projects import said, voxels
from scipy import ndimage
from workflow import (
    BOX,
    CLASSES,
    LARGE,
    MINIMUM_VOXELS,
    NEAR,
    by_ts_id,
    centres_of,
    instances_of,
    only_output,
    positions_of,
)


class WorkflowChecks:
    """Base of test classes; their modules have a fixture ``chain``, the finished workflow."""

    @pytest.mark.parametrize(
        ("member", "output"),
        [
            ("denoised", "denoisedTomograms"),
            ("lamella", "lamellaMasks"),
            ("semantic", "semanticMasks"),
            ("particles", "semanticMasks"),
            ("instances", "instanceMasks"),
            ("classed", "instanceMasks"),
            ("near", "instanceMasks"),
            ("masked", "maskedTomograms"),
        ],
    )
    def test_geometry_is_the_input_s_at_every_hand_over(self, chain, member, output):
        size = pytest.approx(chain.data.voxel_size)
        result = getattr(chain[member], output)
        assert result.getSamplingRate() == size, said(chain[member])
        items, sources = by_ts_id(result), by_ts_id(chain["raw"].Tomograms)
        assert sorted(items) == chain.data.ts_ids
        for ts_id, item in items.items():
            source = sources[ts_id]
            assert item.getSamplingRate() == size
            assert item.getDim() == source.getDim() == chain.data.shape[::-1]
            assert item.getShiftsFromOrigin() == source.getShiftsFromOrigin()
            assert not item.hasHalfMaps()
            with mrcfile.open(item.getFileName(), header_only=True) as mrc:
                header = mrc.voxel_size
                expected = pytest.approx([chain.data.voxel_size] * 3, rel=1e-4)
                assert (header.x, header.y, header.z) == expected

    def test_masks_restrict_the_segmentation(self, chain):
        lamellae = by_ts_id(chain["lamella"].lamellaMasks)
        for member in ("semantic", "particles"):
            for ts_id, mask in by_ts_id(chain[member].semanticMasks).items():
                labels, lamella = voxels(mask), voxels(lamellae[ts_id])
                assert set(np.unique(lamella)) == {0, 1}
                assert labels.any()
                assert not labels[lamella == 0].any()

    def test_every_particle_lies_on_its_component(self, chain):
        """The centre of mass of a component of its class, found again by other means."""
        from cryosiam_plugin.convert import index_of

        masks = by_ts_id(chain["particles"].semanticMasks)
        labels = {ts_id: voxels(mask) for ts_id, mask in masks.items()}
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

    def test_coordinates_carry_what_averaging_needs(self, chain):
        coordinates = chain["particles"].coordinates
        assert coordinates.getBoxSize() == BOX
        assert coordinates.getSamplingRate() == pytest.approx(chain.data.voxel_size)
        for coordinate in coordinates.iterCoordinates():
            assert coordinate._className.get() == CLASSES[coordinate.getGroupId()]
            assert coordinate._nVoxels.get() > MINIMUM_VOXELS

    def test_scores_are_those_of_the_engine(self, chain):
        """Between 0 and 1, and those of the same particles in the engine's tables."""
        ours, theirs = {}, {}
        for coordinate in chain["particles"].coordinates.iterItems():
            assert 0 < coordinate.getScore() <= 1
            key = (coordinate.getTomoId(), coordinate.getGroupId())
            ours.setdefault(key, []).append((coordinate._nVoxels.get(), coordinate.getScore()))
        for ts_id in chain.data.ts_ids:
            table = Path(chain["particles"]._getExtraPath("predictions", f"{ts_id}_particles.csv"))
            with table.open(newline="") as file:
                for row in csv.DictReader(file):
                    key = (ts_id, int(row["semantic_class"]))
                    theirs.setdefault(key, []).append((float(row["area"]), float(row["score"])))
        assert ours.keys() == theirs.keys()
        for key, rows in theirs.items():
            np.testing.assert_allclose(sorted(ours[key]), sorted(rows), rtol=1e-6)
        assert len({score for rows in theirs.values() for _, score in rows}) > 1

    def test_exported_text_has_the_voxel_indices(self, chain):
        from cryosiam_plugin.convert import index_of

        expected = {}
        for coordinate in chain["particles"].coordinates.iterCoordinates(orderBy="_tomoId"):
            z, y, x = (int(index) for index in index_of(coordinate))
            expected.setdefault(coordinate.getTomoId(), []).append([x, y, z])
        assert sorted(expected) == chain.data.ts_ids
        for ts_id, positions in expected.items():
            path = Path(chain["exported"]._getPath("Export", f"{ts_id}.txt"))
            with path.open() as file:
                rows = [[int(v) for v in row] for row in csv.reader(file, delimiter=" ")]
            assert rows == positions

    def test_extraction_at_another_binning_scales(self, chain):
        ours = positions_of(chain["particles"].coordinates)
        output = only_output(chain["rescaled"])
        assert output.getSamplingRate() == pytest.approx(2 * chain.data.voxel_size)
        assert len(ours) > 0
        np.testing.assert_allclose(positions_of(output), ours / 2, atol=1e-4)

    def test_filter_by_class_name(self, chain):
        output = only_output(chain["ribosomes"])
        names = [c._className.get() for c in output.iterItems()]
        everything = [c._className.get() for c in chain["particles"].coordinates.iterItems()]
        assert names == ["ribosome"] * everything.count("ribosome")
        assert names

    def test_apply_mask_uses_our_masks(self, chain):
        masks = by_ts_id(chain["lamella"].lamellaMasks)
        denoised = by_ts_id(chain["denoised"].denoisedTomograms)
        for ts_id, item in by_ts_id(chain["masked"].maskedTomograms).items():
            expected = voxels(denoised[ts_id]) * voxels(masks[ts_id])
            np.testing.assert_allclose(voxels(item), expected)

    def test_subset_keeps_the_items(self, chain):
        output = only_output(chain["subset"])
        assert output.getSize() == max(1, len(chain.data.ts_ids) - 1)
        assert output.getSamplingRate() == pytest.approx(chain.data.voxel_size)
        sources = by_ts_id(chain["denoised"].denoisedTomograms)
        for ts_id, item in by_ts_id(output).items():
            assert item.getFileName() == sources[ts_id].getFileName()
            assert item.getShiftsFromOrigin() == sources[ts_id].getShiftsFromOrigin()

    @pytest.mark.parametrize("member", ["instances", "classed", "near"])
    def test_instances_are_what_their_mask_shows(self, chain, member):
        """Every number of the mask once, measured again by other means, inside the lamella."""
        found = instances_of(chain[member].coordinates)
        assert found
        lamellae = by_ts_id(chain["lamella"].lamellaMasks)
        numbers = set()
        for ts_id, mask in by_ts_id(chain[member].instanceMasks).items():
            labels = voxels(mask)
            assert labels.dtype == np.uint16
            assert not labels[voxels(lamellae[ts_id]) == 0].any()
            for number, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
                if box is None:
                    continue
                numbers.add((ts_id, number))
                one, inside = found[ts_id, number], labels[box] == number
                centre = np.add(ndimage.center_of_mass(inside), [s.start for s in box])
                np.testing.assert_allclose(one["index"], centre, atol=1e-3)
                assert one["voxels"] == inside.sum()
                volume = inside.sum() * (chain.data.voxel_size / 10) ** 3
                assert one["nm3"] == pytest.approx(volume, rel=1e-4)
                assert one["bounds"] == [(s.start, s.stop - 1) for s in box]
                assert 0 < one["score"] <= 1
        assert numbers == set(found)

    def test_instances_of_a_class_lie_in_it_and_bear_its_name(self, chain):
        classes = by_ts_id(chain["semantic"].semanticMasks)
        ribosome = next(c for c, name in CLASSES.items() if name == "ribosome")
        for ts_id, mask in by_ts_id(chain["classed"].instanceMasks).items():
            inside = voxels(mask) > 0
            # The foreground is smoothed by half a voxel before it is cut at the threshold.
            of_class = ndimage.binary_dilation(voxels(classes[ts_id]) == ribosome)
            assert not (inside & ~of_class).any()
        found = instances_of(chain["classed"].coordinates)
        assert {one["class"] for one in found.values()} == {(ribosome, "ribosome")}
        assert chain["classed"].coordinates.getBoxSize() == BOX

    def test_the_box_suits_the_instances(self, chain):
        sizes = sorted(
            one["voxels"] for one in instances_of(chain["instances"].coordinates).values()
        )
        median = sizes[(len(sizes) - 1) // 2]
        box = chain["instances"].coordinates.getBoxSize()
        assert box % 2 == 0
        assert 0 <= box - 1.5 * (6 * median / np.pi) ** (1 / 3) < 2

    def test_the_filter_keeps_exactly_the_instances_near_the_mask(self, chain):
        before = instances_of(chain["instances"].coordinates)
        after = instances_of(chain["near"].coordinates)
        regions = by_ts_id(chain["semantic"].semanticMasks)
        membrane = next(c for c, name in CLASSES.items() if name == "membrane")
        expected = {}
        for ts_id, mask in by_ts_id(chain["instances"].instanceMasks).items():
            away = ndimage.distance_transform_edt(voxels(regions[ts_id]) != membrane)
            labels = voxels(mask)
            for number in np.unique(labels[(labels > 0) & (away <= NEAR)]).tolist():
                expected[ts_id, number] = before[ts_id, number]
        assert after == expected
        assert 0 < len(after) < len(before), "the test's mask keeps all or nothing"

    def test_every_instance_has_a_surface(self, chain):
        from cryosiam_plugin.convert import index_of

        found = instances_of(chain["instances"].coordinates)
        surfaces = chain["instances"].surfaces
        assert surfaces.getNumberOfMeshes() == len(found)
        assert surfaces.getSamplingRate() == pytest.approx(chain.data.voxel_size)
        groups = set()
        for point in surfaces.iterCoordinates():
            key = (point.getTomoId(), point.getGroupId())
            groups.add(key)
            for position, (low, high) in zip(index_of(point), found[key]["bounds"]):
                assert low - 2 <= position <= high + 2
        assert groups == set(found)

    def test_scipion_filters_instances_by_their_columns(self, chain):
        kept = instances_of(only_output(chain["large"]))
        expected = {
            key: one
            for key, one in instances_of(chain["near"].coordinates).items()
            if one["voxels"] > LARGE and one["bounds"][0][0] > 0
        }
        assert kept == expected
        assert kept

    def test_scipion_rescales_and_exports_instances(self, chain):
        ours = positions_of(chain["near"].coordinates)
        np.testing.assert_allclose(
            positions_of(only_output(chain["instances_rescaled"])), ours / 2, atol=1e-4
        )
        tables = sorted(Path(chain["instances_exported"]._getPath("Export")).glob("*.txt"))
        assert sum(len(table.read_text().splitlines()) for table in tables) == len(ours)

    def test_a_subset_of_masks_still_knows_that_they_are_instances(self, chain):
        from cryosiam_plugin.convert import instance_classes_of

        assert instance_classes_of(only_output(chain["mask_subset"]).getFirstItem()) == {}
