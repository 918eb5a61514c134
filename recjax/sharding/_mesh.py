"""The mesh of devices, and the words that describe it."""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

AXES = ("data", "model")
"""Rows of a batch are split over ``data``, rows of tables and graphs over ``model``."""


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
    data = len(devices) // max(model, 1) if data is None else data
    if data < 1 or model < 1 or data * model > len(devices):
        raise ValueError(
            f"a mesh of data={data}, model={model} needs {data * model} devices and at "
            f"least 1 each way; there are {len(devices)}"
        )
    # The neighbours along `model` exchange most: they stay within a process.
    chosen = np.array(devices[: data * model]).reshape(data, model)
    return Mesh(chosen, AXES, axis_types=(AxisType.Auto,) * 2)


def read_parallel(text: str) -> Mesh | Literal["pmap"] | None:
    """What ``--parallel`` says.

    Args:
      text: ``none``, ``pmap``, or ``mesh:data=D,model=M``, of which either may be left
        out.

    Returns:
      None, ``"pmap"``, or the mesh.

    Raises:
      ValueError: it is none of these, or there are too few devices.

    Examples:
      >>> read_parallel("none"), read_parallel("pmap")
      (None, 'pmap')
      >>> dict(read_parallel("mesh:data=1").shape)
      {'data': 1, 'model': 1}
    """
    if text == "none":
        return None
    if text == "pmap":
        return "pmap"
    kind, _, words = text.partition(":")
    sizes: dict[str, int] = {}
    for word in words.split(","):
        name, _, size = word.partition("=")
        if kind != "mesh" or name not in AXES or name in sizes or not size.isdecimal():
            raise ValueError(
                f"parallel {text!r}: use none, pmap, or a mesh such as "
                "mesh:data=4,model=2"
            )
        sizes[name] = int(size)
    mesh = make_mesh(**sizes)
    if math.prod(mesh.shape.values()) < jax.process_count():
        raise ValueError(
            f"parallel {text!r} leaves out some of the {jax.process_count()} processes"
        )
    return mesh
