"""Checkpoints come back bit for bit, or not at all."""

import errno
import logging
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.checkpoint import Checkpoints, tree_digest

EXPECT = {"data": "abc"}


def tree(value):
    noise = np.random.default_rng(value).normal(size=(3000, 40))
    return {"table": jnp.asarray(noise), "count": jnp.asarray(value, jnp.int32)}


def fill(path, epochs, keep=3):
    with Checkpoints(path, keep=keep) as checkpoints:
        for epoch in epochs:
            checkpoints.save(epoch, tree(epoch), EXPECT | {"note": epoch})


def array_files(path, epoch):
    """The files that hold an epoch's arrays, largest first."""
    files = [file for file in (path / str(epoch)).rglob("d/*") if file.is_file()]
    return sorted(files, key=lambda file: -file.stat().st_size)


def restore(path):
    with Checkpoints(path) as checkpoints:
        return checkpoints.restore(tree(0), expect=EXPECT)


def test_round_trip_and_the_newest_are_kept(tmp_path):
    fill(tmp_path, (1, 2, 3, 4), keep=2)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.epochs() == [3, 4]
    restored = restore(tmp_path)
    assert restored.epoch == restored.record["note"] == 4
    np.testing.assert_array_equal(restored.tree["table"], tree(4)["table"])
    assert restored.tree["count"].dtype == jnp.int32
    assert not restored.skipped


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path) is None


def test_a_flipped_byte_falls_back_and_says_so(tmp_path, caplog):
    fill(tmp_path, (1, 2))
    # A byte of an array that does not compress: Orbax alone reads it back changed,
    # without a word.
    victim = array_files(tmp_path, 2)[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0xFF
    victim.write_bytes(content)
    with caplog.at_level(logging.WARNING, "recjax"):
        restored = restore(tmp_path)
    assert restored.epoch == 1
    assert list(restored.skipped) == [2]
    assert "epoch 2 is damaged" in caplog.text
    # Its number is free again.
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, tree(2), EXPECT)
    assert restore(tmp_path).epoch == 2


def cut(path: Path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: cut(array_files(folder, 2)[0]),
        lambda folder: array_files(folder, 2)[0].unlink(),
        lambda folder: (folder / "2/record/metadata").write_text('{"data": "ab'),
        lambda folder: (folder / "2/record/metadata").unlink(),
        lambda folder: (folder / "2/tree/manifest.ocdbt").write_bytes(b""),
    ],
    ids=["torn array", "lost array", "torn record", "lost record", "torn manifest"],
)
def test_a_torn_checkpoint_falls_back(tmp_path, damage):
    fill(tmp_path, (1, 2))
    damage(tmp_path)
    restored = restore(tmp_path)
    assert restored.epoch == 1
    assert list(restored.skipped) == [2]
    np.testing.assert_array_equal(restored.tree["table"], tree(1)["table"])


def test_a_half_written_folder_is_no_checkpoint(tmp_path):
    fill(tmp_path, (1,))
    half = tmp_path / "2.orbax-checkpoint-tmp-123"
    half.mkdir()
    (half / "tree").mkdir()
    assert restore(tmp_path).epoch == 1


def test_all_damaged_is_an_error(tmp_path):
    fill(tmp_path, (1, 2))
    for epoch in (1, 2):
        cut(array_files(tmp_path, epoch)[0])
    with pytest.raises(ValueError, match="every checkpoint is damaged"):
        restore(tmp_path)


def test_another_run_is_refused_by_name_and_values(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        record = {"fingerprint": {"data": "abc", "model": {"dim": 64}}}
        checkpoints.save(1, tree(1), record)
    with Checkpoints(tmp_path) as checkpoints:
        other = {"fingerprint": {"data": "abc", "model": {"dim": 32}}}
        with pytest.raises(ValueError, match=r"dim 64.*this run has 32"):
            checkpoints.restore(tree(0), expect=other)


def test_a_save_shares_no_memory_with_what_may_be_overwritten(tmp_path, monkeypatch):
    """The next step may take the buffers of a donated state while Orbax writes."""
    given = {"numpy": np.ones(5), "jax": jnp.ones(5)}
    kept = []
    with Checkpoints(tmp_path) as checkpoints:
        save = checkpoints._manager.save
        monkeypatch.setattr(
            checkpoints._manager,
            "save",
            lambda epoch, args: kept.append(args.tree.item) or save(epoch, args=args),
        )
        checkpoints.save(1, given, EXPECT)
    for name, value in given.items():
        assert not np.shares_memory(kept[0][name], np.asarray(value)), name


def test_a_full_disk_is_said_in_a_line_and_loses_nothing(tmp_path):
    """A real one: files may not grow past 64 KiB in a child process."""
    fill(tmp_path, (1,))
    code = """
import resource, signal, sys
import numpy as np
from recjax.checkpoint import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
noise = np.random.default_rng(0).normal(size=(3000, 40))
with Checkpoints(sys.argv[1]) as checkpoints:
    checkpoints.save(2, {"table": noise}, {"data": "abc"})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    restored = restore(tmp_path)
    assert restored.epoch == 1
    # And the space that comes back is used.
    fill(tmp_path, (2,))
    assert restore(tmp_path).epoch == 2


def test_no_space_left_names_the_epochs_that_are_whole(tmp_path, monkeypatch):
    fill(tmp_path, (1,))
    with Checkpoints(tmp_path) as checkpoints:

        def full(*args, **kwargs):
            raise ValueError("RESOURCE_EXHAUSTED: ...: No space left on device [os 28]")

        monkeypatch.setattr(checkpoints._manager, "save", full)
        with pytest.raises(OSError, match=r"epochs \[1\] are whole") as caught:
            checkpoints.save(2, tree(2), EXPECT)
    assert caught.value.errno == errno.ENOSPC


def test_the_digest_sees_names_shapes_types_and_bytes():
    base = {"a": np.zeros(4, np.float32)}
    others = [
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.array([0, 0, 0, -0.0], np.float32)},
    ]
    digests = {tree_digest(one) for one in (base, *others)}
    assert len(digests) == 5
    assert tree_digest({"a": jnp.zeros(4)}) == tree_digest(base)
