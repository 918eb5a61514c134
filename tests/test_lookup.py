"""Rows of a table over devices: found, brought back and updated as on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from recjax.data import make_context, synthetic
from recjax.models import MF
from recjax.objectives import BPR, Softmax
from recjax.optimizers import Rows, apply_updates, lazy_adam
from recjax.sharding import (
    Parallel,
    lookup_rows,
    make_mesh,
    return_rows,
    shard_context,
    split_ids,
    update_rows,
)
from recjax.training import Sampled, init_state, make_epoch
from recjax.types import Spec

NUM, DIM = 32, 3
MESHES = [(1, 8), (2, 4), (8, 1)]
each_mesh = pytest.mark.parametrize("sizes", MESHES)


def some_ids(rng, num=45):
    """Many of one device, many times, and some that are not there."""
    return np.minimum(rng.geometric(0.08, num), NUM + 2).astype(np.int32)


@each_mesh
def test_rows_are_those_of_the_table(rng, sizes):
    mesh = make_mesh(*sizes)
    table = rng.normal(size=(NUM, DIM)).astype(np.float32)
    ids = some_ids(rng)

    @jax.jit
    def look(table, ids):
        return lookup_rows(table, split_ids(ids, NUM, mesh), mesh)[: len(ids)]

    padded = np.concatenate([table, np.zeros((3, DIM), np.float32)])
    np.testing.assert_array_equal(look(table, ids), padded[ids])


def test_rows_without_room_are_seen_to_be_missing(rng):
    mesh = make_mesh(1, 8)
    table = rng.normal(size=(NUM, DIM)).astype(np.float32)
    # Each of eight devices asks the first one for three rows, and the second for one.
    ids = np.tile([0, 2, 1, 4, 1], 8)
    found = np.asarray(lookup_rows(table, jnp.asarray(ids), mesh, capacity=2))
    late = ids == 2
    assert np.isnan(found[late]).all()
    np.testing.assert_array_equal(found[~late], table[ids[~late]])


@each_mesh
def test_gradients_come_back_to_their_rows(rng, sizes):
    mesh, adam = make_mesh(*sizes), lazy_adam(0.1)
    params = {
        "nodes": jnp.asarray(rng.normal(size=(NUM, DIM)), jnp.float32),
        "bias": jnp.ones(2),
    }
    ids = some_ids(rng)
    values = rng.normal(size=(len(ids), DIM)).astype(np.float32)
    grads = {"nodes": Rows(ids, values), "bias": jnp.array([1.0, -1.0])}

    @jax.jit
    def alone(params, state):
        updates, state = adam.update(grads, state, params)
        return apply_updates(params, updates), state

    @jax.jit
    def over_all(params, state):
        more = -len(ids) % mesh.size
        rows = Rows(
            split_ids(jnp.asarray(ids), NUM, mesh), np.pad(values, ((0, more), (0, 0)))
        )
        back = grads | {"nodes": return_rows(rows, NUM, mesh)}
        return update_rows(adam, params, state, back, mesh, NUM)

    left = right = (params, adam.init(params))
    for _ in range(3):
        left, right = alone(*left), over_all(*right)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), left, right
    )


def test_sizes_must_be_multiples():
    with pytest.raises(ValueError, match="30 rows must be a multiple of model=8"):
        lookup_rows(jnp.zeros((30, 2)), jnp.zeros(8, jnp.int32), make_mesh(1, 8))


@pytest.mark.parametrize("objective", [BPR(), Softmax()])
def test_a_sharded_table_is_trained_as_on_one_device(objective):
    log = synthetic(num_users=24, num_items=16, num_groups=2, rows_per_user=5)
    spec = Spec(24, 16)
    context = make_context(log.interactions, spec)
    model, adam = MF(dim=4, objective=objective, init_scale=0.1), lazy_adam(0.05)

    def run(parallel):
        mesh = None if parallel is None else parallel.mesh
        state = init_state(model, adam, spec, jax.random.key(0), mesh=mesh)
        run_epoch = make_epoch(
            model, adam, batch_size=50, parallel=parallel, sampled=Sampled(())
        )
        data = shard_context(context, parallel)
        for _ in range(2):
            state, logs = run_epoch(state, data)
        if parallel is not None:
            assert state.params["nodes"].sharding.spec == PartitionSpec("model")
        return state.params["nodes"], logs["loss"]

    for left, right in zip(run(None), run(Parallel(make_mesh(2, 4))), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
