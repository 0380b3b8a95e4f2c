"""Scipion's sets, and what belongs together in a project, as scenes of the slice viewer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pyworkflow.object import Set as ScipionSet
from tomo.objects import SetOfCoordinates3D, SetOfMeshes, SetOfTomograms, SetOfTomoMasks

from cryosiam_plugin.viewers.scene import SceneFiles
from cryosiam_plugin.viewers.scipion_together import Layer, Together, masks_alone, scenes_of
from cryosiam_plugin.viewers.volumes import ViewerError

#: In the names of all our protocols, and so in the folders of their runs.
OUR_PREFIX = "ProtCryosiam"

_DENOISE = "ProtCryosiamDenoise"
_LAMELLA = "ProtCryosiamLamella"
#: Instance segmentation and the filter of instances.
_INSTANCES = "ProtCryosiamInstance"

#: Protocols whose results are particles of others.
_OF_PARTICLES = ("ProtCryosiamEmbeddings", "ProtCryosiamClusters", "ProtCryosiamSelection")

#: Of the outputs that are no results to look at by themselves: how their names begin.
_FAILED = "failed"
_PROBABILITY = "probability_"


def is_ours(scipion_set: Any) -> bool:
    """Whether a set is an output of one of this plugin's protocols."""
    if not isinstance(scipion_set, ScipionSet):
        return False
    return OUR_PREFIX in Path(scipion_set.getFileName() or "").parent.name


def of_protocol(protocol: Any, project: Any) -> list[SceneFiles]:
    """The tomograms of one of our protocols that have results, with these.

    Raises
    ------
    ViewerError
        When there are no results yet.
    """
    results: set[str] = set()
    for output in _outputs(protocol).values():
        results |= set(output.getTSIds())
    if not results:
        raise ViewerError(
            f"{protocol.getRunName()} has no results yet. While it runs, they appear tomogram by "
            "tomogram; if it failed, its summary and its log say why."
        )
    return list(scenes_of(_of_run(protocol, project), results))


def of_set(scipion_set: Any, project: Any) -> list[SceneFiles]:
    """The tomograms of a set, with what belongs to them.

    Parameters
    ----------
    scipion_set
        Tomograms, masks or coordinates. Of one of our protocols: shown on what the protocol
        read; of others: by itself, on the tomograms that it knows.
    project
        It belongs to.

    Raises
    ------
    ViewerError
        When the set is empty, or its tomograms are not there.
    """
    protocol = _maker(scipion_set, project)
    if protocol is not None and protocol.getClassName() in _OF_PARTICLES:
        # Its particles stay in the tomograms that they were picked in.
        protocol = None
    if isinstance(scipion_set, SetOfTomoMasks) and protocol is None:
        return masks_alone(scipion_set)
    together = _of_run(protocol, project) if protocol is not None else Together(scipion_set)
    if isinstance(scipion_set, SetOfMeshes):
        together = _on_precedents(scipion_set, together, project)
        # The masks would hide the dots on their edges.
        layers = [replace(layer, shown=False) for layer in together.layers]
        together = replace(together, layers=layers, coordinates=None, surfaces=scipion_set)
    elif isinstance(scipion_set, SetOfCoordinates3D):
        together = replace(_on_precedents(scipion_set, together, project), coordinates=scipion_set)
    elif isinstance(scipion_set, SetOfTomoMasks):
        together = _with_masks(together, scipion_set, protocol)
    scenes = list(scenes_of(together, set(scipion_set.getTSIds())))
    if not scenes:
        raise ViewerError("There are no tomograms in this set.")
    return scenes


def _on_precedents(coordinates: SetOfCoordinates3D, together: Together, project: Any) -> Together:
    """Coordinates of a run of ours, or of others on the tomograms that they were found in."""
    if together.tomograms is not coordinates:
        return together
    tomograms = coordinates.getPrecedents()
    if tomograms is None:
        raise ViewerError("The tomograms of these coordinates are not in the project any more.")
    return _with_raw(tomograms, project)


def _with_masks(together: Together, masks: SetOfTomoMasks, protocol: Any) -> Together:
    """One output of a run, over what the run read."""
    context = [layer for layer in together.layers if not layer.shown]
    together = replace(together, layers=context, coordinates=None)
    name = _output_name(masks, protocol)
    if name.startswith(_PROBABILITY):
        title = f"probability of {name[len(_PROBABILITY) :]}"
        if together.beside is not None:
            together = replace(together, tomograms=together.beside, title=together.beside_title)
        return replace(together, beside=masks, beside_title=title)
    return replace(together, layers=[*context, Layer(_title(masks), masks)])


def _of_run(protocol: Any, project: Any) -> Together:
    """What a run of ours read, with all its outputs over it."""
    source = protocol.inputTomograms.get()
    if source is None:
        raise ViewerError("The run's input tomograms are not in the project any more.")
    outputs = _outputs(protocol)
    primary = outputs.get(protocol._primaryOutput)
    if protocol.getClassName() == _DENOISE:
        return Together(source, "raw", beside=primary)
    together = _with_raw(source, project)
    partners = [pointer.get() for pointer in protocol._partners().values()]
    # What confines the search is there to be switched on; it would only veil the rest.
    veils = {"lamella", "all instances"} | ({"classes"} if _finds_instances(protocol) else set())
    layers = [
        Layer(title, p, shown=title not in veils)
        for title, p in ((_partner_title(p), p) for p in partners if p is not None)
    ]
    layers += [Layer(_title(o), o) for o in outputs.values() if isinstance(o, SetOfTomoMasks)]
    coordinates = primary if isinstance(primary, SetOfCoordinates3D) else None
    return replace(together, layers=layers, coordinates=coordinates)


def _with_raw(tomograms: SetOfTomograms, project: Any) -> Together:
    """Tomograms beside the raw ones that they were denoised from, if that is in the project."""
    maker = _maker(tomograms, project)
    if maker is None or maker.getClassName() != _DENOISE or maker.inputTomograms.get() is None:
        return Together(tomograms)
    return Together(maker.inputTomograms.get(), "raw", beside=tomograms)


def _maker(scipion_set: Any, project: Any) -> Any:
    """The protocol of ours that a set is an output of, or None."""
    parent = scipion_set.getObjParentId()
    if not is_ours(scipion_set) or not parent:
        return None
    return project.getProtocol(parent, fromRuns=True)


def _outputs(protocol: Any) -> dict[str, Any]:
    """The results of a run, by their names."""
    return {
        name: output
        for name, output in protocol.iterOutputAttributes()
        if isinstance(output, (SetOfTomograms, SetOfCoordinates3D))
        and not name.startswith((_FAILED, _PROBABILITY))
    }


def _output_name(output: ScipionSet, protocol: Any) -> str:
    """The name of an output of a protocol, found by its file."""
    for name, candidate in protocol.iterOutputAttributes():
        if getattr(candidate, "getFileName", str)() == output.getFileName():
            return str(name)
    return ""


def _title(masks: SetOfTomoMasks) -> str:
    """What masks are, from the protocol that made them."""
    run = Path(masks.getFileName() or "").parent.name
    if _INSTANCES in run:
        return "instances"
    return "lamella" if run.endswith(_LAMELLA) else "classes"


def _partner_title(masks: SetOfTomoMasks) -> str:
    """What masks are that a run read; its own are called as :func:`_title` calls them."""
    title = _title(masks)
    return "all instances" if title == "instances" else title


def _finds_instances(protocol: Any) -> bool:
    return str(protocol.getClassName()).startswith(_INSTANCES)
