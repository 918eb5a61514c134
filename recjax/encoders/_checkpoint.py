"""Parameters from safetensors files, tensor by tensor, straight to their devices."""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from recjax.encoders._extra import library
from recjax.types import Params

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

Placement: TypeAlias = (
    jax.sharding.Sharding
    | Callable[[str, tuple[int, ...]], jax.sharding.Sharding]
    | None
)
"""Where parameters go: all alike, by path and shape, or to the default device."""

_KINDS = ("F64", "F32", "F16", "BF16")
_LISTED = 8
_SAFE_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.safetensors")


class Source(NamedTuple):
    """Where the numbers of a parameter are.

    Attributes:
      names: of one tensor, or of one a layer where layers are stacked.
      axes: the tensor's axes in the order of the parameter's.
      stacked: whether the parameter's first axis is that of the layers.
    """

    names: tuple[str, ...]
    axes: tuple[int, ...]
    stacked: bool


def over_mesh(mesh: jax.sharding.Mesh, axis: str) -> Placement:
    """Every parameter split over an axis of a mesh, along its longest axis that fits.

    With it `recjax.encoders.load` reads a model that fits no single device: each of
    them gets its part of each parameter, and no more of the file is read.

    Args:
      mesh: devices.
      axis: its axis to split over; small parameters, and those of which no axis is a
        multiple of it, are copied to all.

    Returns:
      A function of a parameter's path and shape.

    Examples:
      >>> import jax
      >>> mesh = jax.make_mesh((1,), ("model",))
      >>> place = over_mesh(mesh, "model")
      >>> tuple(place("layers.inner.kernel", (6, 384, 1536)).spec)
      (None, None, 'model')
    """
    size = mesh.shape[axis]

    def place(path: str, shape: tuple[int, ...]) -> jax.sharding.Sharding:
        spec: list[str | None] = [None] * len(shape)
        # Not along the layers: each step of the loop over them needs one whole.
        first = 1 if len(shape) == 3 else 0
        fits = [n for n in range(first, len(shape)) if shape[n] % size == 0]
        if len(shape) > 1 and fits:
            spec[max(fits, key=lambda n: shape[n])] = axis
        return jax.NamedSharding(mesh, jax.P(*spec))

    return place


def read_params(
    folder: Path,
    shapes: Params,
    find: Callable[[Iterable[str]], dict[str, Source]],
    *,
    dtype: Any,
    sharding: Placement,
) -> Params:
    """The parameters of a model.

    Args:
      folder: where its safetensors files are.
      shapes: of the parameters, as `jax.eval_shape` gives them.
      find: from the names of all tensors to the source of each parameter, by its path
        joined with dots.
      dtype: floating type of the parameters.
      sharding: where they go.

    Returns:
      Parameters like ``shapes``.

    Raises:
      ValueError: files are missing, cut off or altered; tensors are missing (they are
        listed), of other shapes, or hold numbers that are not finite.
    """
    with contextlib.ExitStack() as stack:
        tensors = _open(folder, stack)
        leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
        paths = [".".join(key.key for key in path) for path, _ in leaves]
        wanted = {
            path: leaf.shape for path, (_, leaf) in zip(paths, leaves, strict=True)
        }
        sources = find(tensors)
        _check(folder, tensors, wanted, sources)
        made = [
            _place(tensors, path, wanted[path], sources[path], dtype, sharding)
            for path in paths
        ]
    return jax.tree.unflatten(tree, made)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model; ValueError where there are none.

    Args:
      folder: of the model.

    Returns:
      One file, or all that the index names, sorted.
    """
    index = folder / INDEX
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not index.is_file():
        pickles = sorted(file.name for file in folder.glob("*.bin"))
        hint = (
            f"; {pickles[0]} is a pickle, which is never loaded: save the model again "
            "by save_pretrained, which writes safetensors"
            if pickles
            else ": it is no model, or half of one"
        )
        raise ValueError(f"{folder} has no {SINGLE}{hint}")
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of tensors ({error!r})") from None
    for name in names:
        if not isinstance(name, str) or not _SAFE_FILE.fullmatch(name):
            raise ValueError(f"{index} names the unsafe file {name!r}")
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing: fetch the model again")
    return [folder / name for name in names]


def _open(folder: Path, stack: contextlib.ExitStack) -> dict[str, tuple[Path, Any]]:
    """File and slice of each tensor, by name; nothing of them is read yet."""
    safetensors = library("safetensors")
    tensors = {}
    for file in weight_files(folder):
        try:
            handle = stack.enter_context(safetensors.safe_open(file, "numpy"))
            names = handle.keys()
            tensors |= {_modern(name): (file, handle.get_slice(name)) for name in names}
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{file} is cut off, or no safetensors file ({error}): fetch it again"
            ) from None
    return tensors


def _modern(name: str) -> str:
    """The name of a tensor as newer files write it."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _check(
    folder: Path,
    tensors: Mapping[str, tuple[Path, Any]],
    wanted: Mapping[str, tuple[int, ...]],
    sources: Mapping[str, Source],
) -> None:
    """Refuses files that do not hold what is wanted, in full, before any is read."""
    names = [name for path in wanted for name in sources[path].names]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(names)} tensors: "
            f"{_some(missing)}; it has {len(tensors)}, such as "
            f"{_some(sorted(tensors), 3)}"
        )
    wrong = []
    for path, shape in wanted.items():
        source = sources[path]
        expected = shape[1:] if source.stacked else shape
        for name in source.names:
            tensor = tensors[name][1]
            found = _shape(tensor, len(expected))
            stored = [0] * len(expected)
            for axis, size in zip(source.axes, expected, strict=True):
                stored[axis] = size
            if tensor.get_dtype() not in _KINDS:
                wrong.append(f"{name} is of {tensor.get_dtype()}, not of {_KINDS}")
            elif found != tuple(stored):
                wrong.append(f"{name} is {list(found)}, not {stored}")
    if wrong:
        raise ValueError(
            f"{folder}: the tensors are not of the model that config.json describes: "
            f"{_some(wrong)}"
        )


def _shape(tensor: Any, rank: int) -> tuple[int, ...]:
    """The shape of a tensor, without axes of length 1 in front of so many."""
    shape = tuple(tensor.get_shape())
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def _some(names: list[str], most: int = _LISTED) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _place(
    tensors: Mapping[str, tuple[Path, Any]],
    path: str,
    shape: tuple[int, ...],
    source: Source,
    dtype: Any,
    sharding: Placement,
) -> jax.Array:
    """One parameter on its devices; each reads its own part of the file."""

    def read(index: tuple[slice, ...] | None) -> np.ndarray:
        index = (slice(None),) * len(shape) if index is None else index
        cuts = [
            slice(*cut.indices(size)[:2])
            for cut, size in zip(index, shape, strict=True)
        ]
        layers, inner = (cuts[0], cuts[1:]) if source.stacked else (slice(1), cuts)
        stored = [slice(None)] * len(inner)
        for axis, cut in zip(source.axes, inner, strict=True):
            stored[axis] = cut
        size = [cut.stop - cut.start for cut in cuts]
        out = np.empty(size, dtype)
        rows = out if source.stacked else out[None]
        for row, name in zip(rows, source.names[layers], strict=True):
            file, tensor = tensors[name]
            ones = (slice(None),) * (len(tensor.get_shape()) - len(stored))
            part = tensor[(*ones, *stored)]
            part = part.reshape(part.shape[len(ones) :]).transpose(source.axes)
            with np.errstate(over="ignore"):  # what is too large is refused below
                row[...] = part
            if not np.isfinite(row).all():
                raise ValueError(
                    f"{file}: {name} holds numbers that are not finite in "
                    f"{np.dtype(dtype)}"
                )
        return out

    if sharding is None:
        return jnp.asarray(read(None))
    if not isinstance(sharding, jax.sharding.Sharding):
        sharding = sharding(path, shape)
    return jax.make_array_from_callback(shape, sharding, read, dtype=dtype)
