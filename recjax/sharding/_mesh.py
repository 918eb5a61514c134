"""The mesh of devices, and the words that describe it."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from recjax.sparse import Exchange

AXES = ("data", "model")
"""Rows of a batch are split over ``data``, rows of tables and graphs over ``model``."""


class Parallel(NamedTuple):
    """How a run is spread over devices.

    Attributes:
      mesh: from `make_mesh`.
      pmap: whether a step is a `jax.pmap`, with all of tables and graph on each device;
        else XLA divides it over the mesh.
      exchange: how features travel along ``model``, see `recjax.sparse.make_shards`.
    """

    mesh: Mesh
    pmap: bool = False
    exchange: Exchange = "gather"


def make_mesh(
    data: int | None = None,
    model: int = 1,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh ``[data, model]`` over the devices of all processes.

    Args:
      data: parts of a batch; None for as many as the devices allow.
      model: parts of the tables and of the graph.
      devices: the first ``data * model`` are taken; None for `jax.devices`.

    Returns:
      The mesh, with axes of type Auto: an Explicit axis refuses to look up rows.

    Raises:
      ValueError: a size is not positive, or there are too few devices.

    Examples:
      >>> dict(make_mesh(data=1, model=1).shape)
      {'data': 1, 'model': 1}
    """
    devices = jax.devices() if devices is None else list(devices)
    data = max(1, len(devices) // max(model, 1)) if data is None else data
    if data < 1 or model < 1 or data * model > len(devices):
        raise ValueError(
            f"a mesh of data={data}, model={model} needs {data * model} devices and at "
            f"least 1 each way; there are {len(devices)}"
        )
    # The neighbours along `model` exchange most: they stay within a process.
    chosen = np.array(devices[: data * model]).reshape(data, model)
    return Mesh(chosen, AXES, axis_types=(AxisType.Auto,) * 2)


def read_parallel(text: str) -> Parallel | None:
    """What ``--parallel`` says.

    Args:
      text: ``none``, ``pmap``, or ``mesh:data=D,model=M``, of which either may be left
        out; ``exchange=ring`` may be added.

    Returns:
      None on one device, else how the run is spread.

    Raises:
      ValueError: it is none of these, there are too few devices, or some process would
        have nothing to do.

    Examples:
      >>> dict(read_parallel("mesh:data=1").mesh.shape)
      {'data': 1, 'model': 1}
    """
    if text == "none":
        if jax.process_count() > 1:
            raise ValueError("several processes need parallel pmap or a mesh")
        return None
    if text == "pmap":
        return Parallel(make_mesh(), pmap=True)
    found = _words(text)
    data = int(found["data"]) if "data" in found else None
    mesh = make_mesh(data, int(found.get("model", 1)))
    idle = set(range(jax.process_count())) - {
        device.process_index for device in mesh.devices.flat
    }
    if idle:
        raise ValueError(f"parallel {text!r} has no device of process {min(idle)}")
    return Parallel(mesh, exchange="ring" if "ring" in found.values() else "gather")


def mesh_sizes(text: str) -> tuple[int, int, Exchange]:
    """The mesh that ``--parallel`` asks for, whether or not the devices are there.

    Args:
      text: as for `read_parallel`; a mesh whose ``data`` is left out has one part.

    Returns:
      Parts of the batch, parts of the tables, and how features travel.

    Raises:
      ValueError: it is none of these, or pmap, which goes by the devices there are.

    Examples:
      >>> mesh_sizes("mesh:data=4,model=128")
      (4, 128, 'gather')
    """
    if text == "none":
        return 1, 1, "gather"
    found = _words(text)
    data, model = (int(found.get(axis, "1")) for axis in AXES)
    if data < 1 or model < 1:
        raise ValueError(f"parallel {text!r}: sizes of a mesh must be at least 1")
    return data, model, "ring" if "ring" in found.values() else "gather"


def _words(text: str) -> dict[str, str]:
    """What is said of a mesh, by name."""
    kind, _, words = text.partition(":")
    found: dict[str, str] = {}
    for word in words.split(","):
        name, _, value = word.partition("=")
        is_size = name in AXES and value.isdecimal()
        is_exchange = name == "exchange" and value in ("gather", "ring")
        if kind != "mesh" or name in found or not (is_size or is_exchange):
            raise ValueError(
                f"parallel {text!r}: use none, pmap, or a mesh such as "
                "mesh:data=4,model=2 or mesh:model=8,exchange=ring"
            )
        found[name] = value
    return found
