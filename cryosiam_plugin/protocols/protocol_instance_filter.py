"""Filter instances by mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyworkflow.protocol.params import GE, FloatParam, PointerParam, StringParam
from pyworkflow.utils import Message

from cryosiam_plugin.convert import (
    instance_classes_of,
    label_table_of,
    link_instances,
    link_tomogram,
    read_instances,
)
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.class_lists import parse_classes
from cryosiam_plugin.protocols.form_parts import (
    THREADS,
    defineProcessParams,
    defineStreamingParams,
    defineTomogramsParam,
)
from cryosiam_plugin.protocols.instance_results import (
    CryosiamInstancesOutputs,
    InstanceResults,
    defineResultParams,
)
from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase
from cryosiam_plugin.protocols.slurm_form import defineSlurmParams

#: How the names of the files end that the engine reads of a tomogram, besides the mask.
INPUT_ENDINGS = ("_instance_preds.mrc", "_particles.csv")
#: Labels that count where neither the user nor the masks name any: all of an 8-bit mask.
_ANY_LABEL = list(range(1, 256))


class ProtCryosiamInstanceFilter(InstanceResults, ProtCryosiamBase):
    """Keeps the instances that lie in, or near, some classes of a mask.

    An instance is kept, as a whole, if at least one of its voxels lies in the mask: those inside
    an organelle, those within 20 nm of a membrane, those in a region that was drawn by hand. The
    ones that are kept keep their numbers.

    Gives the same outputs as _instance segmentation_, with the same columns; scores and classes
    are there where the instance masks come from it.
    """

    _label = "filter instances by mask"
    _possibleOutputs = CryosiamInstancesOutputs
    _primaryOutput = CryosiamInstancesOutputs.coordinates.name
    _doneWord = "filtered"

    def _defineParams(self, form: Any) -> None:
        form.addSection(label=Message.LABEL_INPUT)
        defineTomogramsParam(
            form,
            "Tomograms",
            "Those that the instances were found in, or others of the same size and voxel size. "
            "The coordinates will refer to these tomograms.",
        )
        form.addParam(
            "inputInstances",
            PointerParam,
            pointerClass="SetOfTomoMasks",
            important=True,
            label="Instance masks",
            help="Volumes in which every instance has its own number: the output of CryoSiam's "
            "_instance segmentation_, or of another program.",
        )
        form.addParam(
            "inputRegions",
            PointerParam,
            pointerClass="SetOfTomoMasks",
            important=True,
            label="Masks to filter by",
            help="Such as the output of CryoSiam's _semantic segmentation_: whole numbers, 0 is "
            "background, 1, 2... are classes.",
        )
        self._defineFilterParams(form)
        defineResultParams(form)
        defineProcessParams(form)
        defineSlurmParams(form)
        defineStreamingParams(form)
        form.addParallelSection(threads=THREADS, mpi=0)

    def _defineFilterParams(self, form: Any) -> None:
        form.addParam(
            "maskClasses",
            StringParam,
            default="",
            label="Classes of the mask",
            help="Instances are kept in these classes, by name or number: 'membrane, 3-5'. Empty: "
            "in all (of masks that do not name their classes: those from 1 to 255). The wand lists "
            "them.",
        )
        form.addParam(
            "expandVoxels",
            FloatParam,
            default=0.0,
            validators=[GE(0, error="must be 0 or more")],
            label="Also keep within (voxels)",
            help="Instances that come so near to the mask are kept as well: the distance in "
            "voxels. Distance in voxels = distance in Å / voxel size; 20 nm around a membrane are "
            "200 / 10 = 20 voxels of 10 Å.",
        )

    def _commands(self) -> list[str]:
        return ["instance_filter"]

    def _computes(self) -> bool:
        return False

    def _partners(self) -> dict[str, Any]:
        return {"instance mask": self.inputInstances, "mask": self.inputRegions}

    def _linkInputs(self, tsId: str) -> None:
        super()._linkInputs(tsId)
        size = tuple(self._feed.tomograms[tsId].getDim())
        for name, items in self._feed.partners.items():
            if tuple(items[tsId].getDim()) != size:
                raise ValueError(
                    f"Its {name} is {items[tsId].getDim()} voxels large, but the tomogram {size}. "
                    "Give masks that were made from these tomograms."
                )
        link_instances(self._feed.partners["instance mask"][tsId], self._predictionFolder())
        link_tomogram(self._feed.partners["mask"][tsId], self._maskFolder())

    def _readFiles(self, tsIds: list[str]) -> list[Path]:
        folder = Path(self._predictionFolder())
        names = [f"{tsId}{ending}" for tsId in tsIds for ending in INPUT_ENDINGS]
        links = [folder / name for name in names]
        return super()._readFiles(tsIds) + [path for path in links if path.exists()]

    def _configuration(self) -> dict[str, Any]:
        keys = super()._configuration()
        del keys["mask_folder"]
        return keys

    def _configurationKeys(self) -> dict[str, Any]:
        return {
            "output_format": "mrc",
            "filtering_mask_folder": self._maskFolder(),
            "filtering_mask_extension": ".mrc",
            "filtering_mask_labels": self._labels(),
            "filtering_mask_expand_voxels": float(self.expandVoxels.get()),
        }

    def _labels(self) -> list[int]:
        masks = self.inputRegions.get()
        first = masks.getFirstItem() if masks is not None and masks.getSize() else None
        names = label_table_of(first) if first is not None else {}
        return parse_classes(self.maskClasses.get(), names) or sorted(names) or _ANY_LABEL

    def _resultOf(self, status: EngineStatus, kind: str, suffix: str = "") -> str:
        # The engine writes into a folder of its own beside the instances that it reads.
        name = Path(super()._resultOf(status, kind, suffix)).name
        return self._getExtraPath("predictions_filtered", name)

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        rows = read_instances(self._resultOf(last, "particles", ".csv"))
        mask = self._feed.partners["instance mask"][tomogram.getTsId()]
        path = self._resultOf(last, "instances", ".mrc")
        self._addInstances(tomogram, path, rows, instance_classes_of(mask) or {})

    def _problems(self) -> list[str]:
        problems = super()._problems()
        try:
            self._labels()
        except ValueError as error:
            problems.append(f"*Classes of the mask*: {error}")
        return problems

    def _emptyMessage(self) -> str:
        text = (
            "No instance of any tomogram lies in the mask. Check the classes of the mask, or keep "
            "instances that are farther away."
        )
        return "\n".join([text, *self._engineReasons()])

    def _methodsSettings(self) -> str:
        return f"keeping instances within {self.expandVoxels.get():g} voxels of a mask, "
