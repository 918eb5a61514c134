"""Checkpoints of a whole run, written by Orbax, checked byte for byte when read.

A checkpoint is a pytree of arrays beside a small JSON record.  Orbax publishes it by
renaming a finished folder, so that a killed process leaves the one before.  What Orbax
does not notice is a flipped byte in an array file: the record therefore holds a digest
of every array, and a checkpoint that does not match it is passed over for an older one.
"""

import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

_log = logging.getLogger("recjax")


class Restored(NamedTuple):
    """What was read back.

    Attributes:
      epoch: the number that the checkpoint was saved under.
      tree: the arrays.
      record: the JSON record.
      skipped: newer epochs whose checkpoints were damaged, and why.
    """

    epoch: int
    tree: Any
    record: dict[str, Any]
    skipped: dict[int, str]


class Checkpoints:
    """The checkpoints of one run in one folder; the newest few are kept.

    Examples:
      >>> import tempfile, jax.numpy as jnp
      >>> tree = {"x": jnp.arange(3)}
      >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
      ...     checkpoints.save(1, tree, {"data": "movies"})
      ...     restored = checkpoints.restore(tree, expect={"data": "movies"})
      >>> restored.epoch, restored.tree["x"].tolist()
      (1, [0, 1, 2])
    """

    def __init__(self, path: str | Path, *, keep: int = 2) -> None:
        """Opens the folder, making it where needed.

        Args:
          path: the folder.
          keep: how many of the newest checkpoints stay.
        """
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._path = Path(path).resolve()
        self._manager = ocp.CheckpointManager(self._path, options=options)

    def __enter__(self) -> "Checkpoints":
        """For use in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the last save and closes."""
        with self._plain_errors():
            self._manager.close()

    def epochs(self) -> list[int]:
        """Numbers of the checkpoints that are whole, ascending."""
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Waits until the last save is on disk; raises what went wrong with it."""
        with self._plain_errors():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """A full disk as an OSError: Orbax reports it as a ValueError of many lines."""
        try:
            yield
        except Exception as error:
            if os.strerror(errno.ENOSPC) not in str(error):
                raise
            message = (
                "no space left for a checkpoint; those of epochs "
                f"{self.epochs()} are whole: free some space and resume"
            )
            raise OSError(errno.ENOSPC, message, str(self._path)) from None

    def save(self, epoch: int, tree: Any, record: dict[str, Any]) -> None:
        """Writes a checkpoint in the background.

        Of several processes each writes what its devices hold, and all call this.  On
        a CPU the arrays are copied first: the next step may overwrite the buffers of a
        donated state while Orbax is still writing.

        Args:
          epoch: its number; one that is there already is replaced.
          tree: a pytree of arrays; PRNG keys as their data.
          record: JSON values.

        Raises:
          OSError: the disk is full; the failure may be that of the save before.
        """
        tree = jax.tree.map(_copy, tree)
        if epoch in self._manager.all_steps():
            # A damaged one, that `restore` has passed over.
            self._manager.delete(epoch)
        args = ocp.args.Composite(
            tree=ocp.args.StandardSave(tree),
            record=ocp.args.JsonSave(record | {"digest": tree_digest(tree)}),
        )
        with self._plain_errors():
            self._manager.save(epoch, args=args)

    def restore(self, like: Any, *, expect: dict[str, Any]) -> Restored | None:
        """Reads the newest checkpoint that is whole.

        Args:
          like: a pytree of arrays with the shapes and types to be read, and where
            each is to lie, whatever devices wrote it; it may be abstract
            (`jax.eval_shape`).  A function makes it from the record, where shapes
            are not known before.
          expect: entries that the record must have, such as the configuration and
            the data's hash.

        Returns:
          The checkpoint; None where there is none at all.

        Raises:
          ValueError: the record says something else than expected, or there are
            checkpoints and all of them are damaged.
        """
        skipped: dict[int, str] = {}
        for epoch in reversed(self.epochs()):
            try:
                record = self._read(epoch, record=ocp.args.JsonRestore())["record"]
                found = {name: record[name] for name in expect}
            except Exception as error:
                skipped[epoch] = _first_line(error)
                continue
            _check_expected(found, expect, epoch)
            try:
                form = like(record) if callable(like) else like
                shapes = jax.tree.map(_shape, form)
                tree = self._read(epoch, tree=ocp.args.StandardRestore(shapes))["tree"]
                digest = tree_digest(tree)
            except Exception as error:
                skipped[epoch] = _first_line(error)
                continue
            if digest != record["digest"]:
                skipped[epoch] = "its arrays do not match their digest"
                continue
            for bad, why in skipped.items():
                _log.warning("checkpoint of epoch %d is damaged (%s)", bad, why)
            return Restored(epoch, tree, record, skipped)
        if skipped:
            raise ValueError(
                f"every checkpoint is damaged ({skipped}): delete the folder and start "
                "the run again"
            )
        return None

    def _read(self, epoch: int, **args: Any) -> Any:
        return self._manager.restore(epoch, args=ocp.args.Composite(**args))


def _copy(x: Any) -> Any:
    if not isinstance(x, jax.Array):
        return np.array(x)
    # Elsewhere Orbax has moved them to the host before it returns.
    on_cpu = all(device.platform == "cpu" for device in x.sharding.device_set)
    return jnp.copy(x) if on_cpu else x


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    where = getattr(x, "sharding", None)
    if where is None:
        where = SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)


def tree_digest(tree: Any) -> str:
    """A digest of a pytree's paths, shapes, types and bytes, the same on any devices.

    Each word of an array is mixed with its place, and these sums go into SHA-256: a
    sum does not depend on which device adds what, and no array is moved for it.  It
    finds damage, not malice.

    Args:
      tree: a pytree of arrays.

    Returns:
      64 hexadecimal digits.

    Examples:
      >>> import numpy as np
      >>> tree_digest({"x": np.zeros(2)}) == tree_digest({"x": np.zeros(3)})
      False
    """
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sums = _word_sums([_as_words(leaf) for _, leaf in leaves])
    for (path, leaf), found in zip(leaves, jax.device_get(sums), strict=True):
        digest.update(
            f"{jax.tree_util.keystr(path, simple=True, separator='/')}"
            f"{leaf.shape}{leaf.dtype}".encode()
        )
        digest.update(found.astype("<u4").tobytes())
    return digest.hexdigest()


def _as_words(x: Any) -> Any:
    """An array of a type that a device can hold: NumPy has wider ones."""
    if isinstance(x, jax.Array) or np.asarray(x).itemsize <= 4:
        return x
    return np.atleast_1d(np.ascontiguousarray(x)).view(np.uint32)


@jax.jit
def _word_sums(arrays: list[jax.Array]) -> list[jax.Array]:
    """Two sums ``[2]`` modulo 2^32 of each array."""

    def mix(word):
        word = (word ^ word >> 16) * jnp.uint32(0x85EBCA6B)
        word = (word ^ word >> 13) * jnp.uint32(0xC2B2AE35)
        return word ^ word >> 16

    def of(x):
        if x.dtype == bool:
            x = x.astype(jnp.uint8)
        words = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
        place, stride = jnp.zeros(x.shape, jnp.uint32), 1
        for axis in reversed(range(x.ndim)):
            number = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
            place, stride = (
                place + number * jnp.uint32(stride % 2**32),
                stride * x.shape[axis],
            )
        mixed = mix(words.astype(jnp.uint32) ^ mix(place))
        return jnp.stack([mixed.sum(dtype=jnp.uint32), mix(~mixed).sum(dtype="uint32")])

    return [of(x) for x in arrays]


def _check_expected(found: dict[str, Any], expect: dict[str, Any], epoch: int) -> None:
    for name, value in expect.items():
        saved = found.get(name)
        if saved == value:
            continue
        if isinstance(value, dict) and isinstance(saved, dict):
            _check_expected(saved, value, epoch)
        raise ValueError(
            f"the checkpoint of epoch {epoch} has {name} {saved!r}, this run has "
            f"{value!r}: resume with the same, or choose another folder"
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
