"""Training on drawn neighbours: as on the whole graph where all of them are drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import make_context, synthetic
from recjax.evaluation import evaluate
from recjax.graphs import add_edge_mass
from recjax.lists import item_lists
from recjax.models import MF, NGCF, SGL, DirectAU, LightGCN
from recjax.objectives import SampledSoftmax, Softmax
from recjax.optimizers import lazy_adam
from recjax.sampling import make_batch
from recjax.sharding import Parallel, make_mesh, shard_context
from recjax.training import (
    Sampled,
    Training,
    draw_share,
    fit,
    init_state,
    make_epoch,
    make_streamed_epoch,
    share_gradient,
)
from recjax.types import Spec

LOG = synthetic(num_users=24, num_items=16, num_groups=2, rows_per_user=6)
SPEC = Spec(24, 16)
CONTEXT = make_context(LOG.interactions, SPEC)
CONTEXT = CONTEXT._replace(graph=add_edge_mass(CONTEXT.graph))
MOST = int(np.diff(CONTEXT.graph.globals["layout"].row_pointer).max())

MODELS = {
    "mf sampled softmax": MF(dim=4, objective=SampledSoftmax(num_negatives=3)),
    "lightgcn": LightGCN(dim=4, layers=2, objective=Softmax()),
    "ngcf": NGCF(dim=4, layers=1, dropout=0.0),
    "directau": DirectAU(dim=4, layers=1),
}


@functools.partial(jax.jit, static_argnums=(0, 3))
def both_ways(model, params, batch, sampled):
    def loss(params):
        return model.loss(params, CONTEXT, batch, jax.random.key(5))

    whole = jax.value_and_grad(loss, has_aux=True)(params)
    share = draw_share(jax.random.key(9), CONTEXT, batch, sampled)
    found, grads = share_gradient(
        model.loss, params, share, jax.random.key(5), CONTEXT.users.shape[0]
    )
    ids, values = grads["nodes"]
    table = jnp.zeros_like(params["nodes"]).at[ids].add(values, mode="drop")
    return whole, (found, grads | {"nodes": table})


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_derivative_are_those_of_the_whole_graph(name):
    model = MODELS[name]
    params = model.init(jax.random.key(1), SPEC)
    rows = jnp.arange(0, CONTEXT.users.shape[0], 9)
    weight = jnp.ones(len(rows)).at[3].set(0.0)
    batch = make_batch(
        jax.random.key(2),
        CONTEXT,
        CONTEXT.users[rows],
        CONTEXT.items[rows],
        weight,
        model.num_negatives,
    )
    sampled = Sampled((MOST,) * model.hops)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5),
        *both_ways(model, params, batch, sampled),
    )


def test_the_host_and_a_mesh_draw_and_train_as_the_device_does():
    model, adam = LightGCN(dim=4, layers=1), lazy_adam(0.05)
    size = {"batch_size": 50, "sampled": Sampled((3,), by="weight")}

    def run(run_epoch, parallel=None):
        mesh = None if parallel is None else parallel.mesh
        state = init_state(model, adam, SPEC, jax.random.key(0), mesh=mesh)
        context = shard_context(CONTEXT, parallel)
        for _ in range(2):
            state, logs = run_epoch(state, context)
        return state.params["nodes"], logs["loss"]

    alone = run(make_epoch(model, adam, **size))
    streamed = run(make_streamed_epoch(model, adam, ahead=3, **size))
    jax.tree.map(np.testing.assert_array_equal, alone, streamed)
    parallel = Parallel(make_mesh(2, 4))
    spread = run(make_epoch(model, adam, parallel=parallel, **size), parallel)
    for left, right in zip(alone, spread, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=3e-6)


def test_it_learns_what_the_whole_graph_teaches():
    model = LightGCN(dim=8, layers=2)
    seen = jax.tree.map(np.asarray, CONTEXT.seen)
    nothing = item_lists(np.zeros(0, int), np.zeros(0, int), SPEC.num_users)

    def recall(**settings):
        training = Training(epochs=25, batch_size=48, learning_rate=0.03, **settings)
        params = fit(model, CONTEXT, SPEC, training=training).params
        scores = evaluate(model, params, CONTEXT, seen, seen=nothing, ks=(6,))
        return scores["recall@6"]

    whole, drawn = recall(), recall(fanouts=(4, 4), sample_by="weight")
    assert whole > 0.9 and drawn > 0.9 * whole


def test_what_goes_wrong_on_the_host_is_heard(monkeypatch):
    def fail(*args, **settings):
        raise FloatingPointError("in the thread")

    monkeypatch.setattr("recjax.training._stream.draw_share", fail)
    model, adam = MF(dim=2), lazy_adam(0.1)
    run_epoch = make_streamed_epoch(model, adam, sampled=Sampled(()), batch_size=40)
    with pytest.raises(FloatingPointError, match="in the thread"):
        run_epoch(init_state(model, adam, SPEC, jax.random.key(0)), CONTEXT)


def test_what_does_not_fit_is_refused():
    adam = lazy_adam(0.1)
    with pytest.raises(ValueError, match="SGL reads more than the neighbours"):
        make_epoch(SGL(), adam, sampled=Sampled((3,)))
    with pytest.raises(ValueError, match=r"fanouts \(3,\) must be one a hop.*reads 2"):
        make_epoch(LightGCN(layers=2), adam, sampled=Sampled((3,)))
    with pytest.raises(ValueError, match=r"fanouts \(0,\) must be at least 1"):
        make_streamed_epoch(LightGCN(layers=1), adam, sampled=Sampled((0,)))
    with pytest.raises(ValueError, match="over a mesh"):
        parallel = Parallel(make_mesh(1, 1), pmap=True)
        make_epoch(MF(), adam, sampled=Sampled(()), parallel=parallel)
    with pytest.raises(ValueError, match="ahead 0"):
        make_streamed_epoch(MF(), adam, sampled=Sampled(()), ahead=0)
    with pytest.raises(ValueError, match="fanouts"):
        Training(fanouts=(4, 0))
