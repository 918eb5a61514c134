"""One more table of item features, beside a dataset that is there already."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from recjax.data._check import check_feature
from recjax.data._manifest import (
    absolute,
    check_file,
    check_name,
    describe_file,
    differences,
    plain,
    read_manifest,
    write_manifest,
)
from recjax.data._staging import clean_leftovers, publish, staging
from recjax.data._store import feature_files, write_feature
from recjax.types import Feature


def add_feature(
    path: str | os.PathLike,
    name: str,
    feature: Feature,
    *,
    made_by: dict[str, Any],
    overwrite: bool = False,
) -> Path:
    """Adds a table of item features to a prepared dataset.

    The dataset is replaced as a whole, by a folder of links to its files, the new ones
    and a new manifest: an interrupted call leaves it as it was, and whoever has it
    open keeps what they have.  Interactions, split and configuration stay the same, so
    that runs on it stay valid.

    Args:
      path: folder of the dataset.
      name: of the feature.
      feature: values ``[I, F]``, set to 0 for absent items, and presence ``[I]``.
      made_by: how it was made (JSON values), kept in the manifest.
      overwrite: replace a feature of that name that was made in another way.

    Returns:
      The folder.

    Raises:
      ValueError: shapes do not fit, values are not finite, or there is a feature of
        that name made in another way.
      OSError: the disk is full or may not be written.

    Examples:
      >>> import tempfile
      >>> import numpy as np
      >>> from recjax.data import load, split, synthetic, write
      >>> log = split(synthetic(num_items=20))
      >>> audio = Feature(np.ones((20, 2), np.float32), np.arange(20) < 2)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = write(log, folder + "/made-up", name="made up", config={})
      ...     path = add_feature(path, "audio", audio, made_by={"by": "hand"})
      ...     load(path).features["audio"].values[:3, 0].tolist()
      [1.0, 1.0, 0.0]
    """
    root = absolute(path)
    check_name("feature", name)
    clean_leftovers(root)
    manifest = read_manifest(root)
    has_feature(root, name, made_by=made_by, overwrite=overwrite)
    check_feature(name, feature, manifest.num_items)
    if not np.isfinite(feature.values[feature.present]).all():
        raise ValueError(f"values of feature {name!r} are not all finite")
    values = np.where(feature.present[:, None], feature.values, 0)
    with staging(root) as folder:
        # Linked only after it was found to be what the manifest says.
        for file in manifest.files.keys() - set(feature_files(name)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            _link(check_file(root, manifest, file), folder / file)
        facts = write_feature(folder, name, Feature(values, feature.present))
        files = {file: describe_file(folder / file) for file in feature_files(name)}
        files = dict(sorted((manifest.files | files).items()))
        facts |= {"made_by": plain(made_by, "made_by")}
        features = manifest.features | {name: facts}
        write_manifest(folder, manifest._replace(features=features, files=files))
        publish(folder, root)
    return Path(path)


def has_feature(
    path: str | os.PathLike,
    name: str,
    *,
    made_by: dict[str, Any],
    overwrite: bool = False,
) -> bool:
    """Whether a dataset has a feature that was made in this way.

    Args:
      path: folder of the dataset.
      name: of the feature.
      made_by: as for `add_feature`.
      overwrite: whether one that was made in another way may be replaced.

    Returns:
      True where there is nothing to do.

    Raises:
      ValueError: there is one that was made in another way, and it may not be replaced.
    """
    root = absolute(path)
    check_name("feature", name)
    features = read_manifest(root).features
    # Some file systems do not tell A.npy from a.npy.
    other = {found.casefold(): found for found in features}.get(name.casefold(), name)
    if other not in features:
        return False
    found = features[other].get("made_by", "(as the source gives it)")
    if other == name and found == plain(made_by, "made_by"):
        return True
    if other != name or not overwrite:
        lines = differences(found, plain(made_by, "made_by"), other)
        raise ValueError(
            f"{root} has a feature {other!r} that was made in another way: "
            f"{'; '.join(lines)}. Choose another --name, or replace it with "
            "--overwrite (no run that was trained with it will load then)"
        )
    return False


def _link(old: Path, new: Path) -> None:
    """The same file at another place: by a link where the file system has them."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(old, new)
