"""Many devices give what one gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import problems
from benchmarks.scaling import collective_bytes, expected_bytes, imbalance
from recjax.checkpoint import Checkpoints
from recjax.data import make_context, synthetic
from recjax.evaluation import METRICS, evaluate
from recjax.graphs import make_graph
from recjax.lists import item_lists
from recjax.models import MF, LightGCN
from recjax.objectives import BPR, Softmax
from recjax.sharding import (
    Parallel,
    make_mesh,
    pad_spec,
    read_parallel,
    shard_context,
    shard_graph,
    table_shardings,
)
from recjax.sparse import graph_sum
from recjax.training import Training, fit
from recjax.types import Spec, prepare


def test_a_mesh_takes_the_devices_in_order():
    mesh = make_mesh(data=4, model=2)
    assert dict(mesh.shape) == {"data": 4, "model": 2}
    assert mesh.devices.ravel().tolist() == jax.devices()
    assert dict(make_mesh(model=4).shape) == {"data": 2, "model": 4}


@pytest.mark.parametrize(
    "text", ["mesh", "mesh:", "mesh:data", "mesh:data=2,data=2", "mesh:rows=2", "pmap:"]
)
def test_other_words_are_refused(text):
    with pytest.raises(ValueError, match="mesh:data=4,model=2"):
        read_parallel(text)


def test_a_mesh_needs_its_devices():
    with pytest.raises(ValueError, match="needs 16 devices"):
        read_parallel("mesh:data=8,model=2")


def random_graph(rng, num_users=19, num_items=12, attributes=1, pairs=90):
    """Some nodes receive a third of all edges, and some none."""
    users = np.minimum(rng.integers(0, num_users, pairs), rng.integers(0, 30, pairs))
    items = np.minimum(rng.geometric(0.3, pairs), num_items) - 1
    return make_graph((users, items), Spec(num_users, num_items, attributes))


@pytest.mark.parametrize("exchange", ["gather", "ring"])
@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_a_sharded_sum_and_its_derivatives_are_those_of_one_device(
    rng, parts, exchange
):
    graph = random_graph(rng)
    mesh = make_mesh(data=8 // parts, model=parts)
    spread = shard_graph(graph, mesh, exchange=exchange)
    nodes, given = rng.normal(size=(2, 32, 3)).astype(np.float32)
    rows = NamedSharding(mesh, PartitionSpec("model"))

    @jax.jit
    def run(graph, nodes):
        out, back = jax.vjp(lambda x: graph_sum(graph, x), nodes)
        return out, back(given)

    found = run(spread, jax.device_put(nodes, rows))
    assert found[0].sharding.is_equivalent_to(rows, 2)
    assert spread.senders.sharding.spec == PartitionSpec("model")
    for one, other in zip(found, run(graph, nodes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


LOG = synthetic(num_users=50, num_items=40, num_groups=2, rows_per_user=8)
SPEC = pad_spec(Spec(50, 40), 8)
MODEL = LightGCN(dim=8, layers=2, objective=Softmax())
EVERYWHERE = (Parallel(make_mesh(), pmap=True), Parallel(make_mesh(4, 2)))


def train(model, parallel, epochs, batch_size=64, **options):
    context = prepare(model, make_context(LOG.interactions, SPEC))
    targets = item_lists(np.arange(50), np.arange(50) % 40, 50)
    return fit(
        model,
        shard_context(context, parallel),
        SPEC,
        training=Training(epochs=epochs, batch_size=batch_size, learning_rate=0.01),
        valid=targets,
        parallel=parallel,
        **options,
    )


@pytest.mark.parametrize("parallel", EVERYWHERE, ids=["pmap", "mesh"])
def test_fifty_steps_on_eight_devices_are_those_of_one(parallel):
    # Batches of 60, which eight devices cannot share evenly.
    one, many = (train(MODEL, where, 8, 60) for where in (None, parallel))
    assert len(one.records) * one.steps >= 50
    for left, right in zip(one.records, many.records, strict=True):
        np.testing.assert_allclose(left.losses["loss"], right.losses["loss"], rtol=1e-6)
    np.testing.assert_allclose(
        one.state.params["nodes"], many.state.params["nodes"], rtol=1e-4, atol=1e-5
    )
    assert many.state.params["nodes"].sharding.device_set == set(jax.devices())


def test_tables_are_born_split_and_stay_so():
    parallel = EVERYWHERE[1]
    result = train(MODEL, parallel, 1)
    rows = NamedSharding(parallel.mesh, PartitionSpec("model"))
    moments = result.state.opt_state[0]
    for table in (result.params, result.state.params, moments.mu, moments.nu):
        assert table["nodes"].sharding.is_equivalent_to(rows, 2)
        assert table["nodes"].addressable_shards[0].data.shape == (48, 8)


def test_a_run_goes_on_with_other_devices(tmp_path):
    """8, 2, 1 and 8 again: each part of the run where the one before had stopped."""
    whole = train(MODEL, None, 4).records
    chain = (
        EVERYWHERE[1],
        Parallel(make_mesh(1, 2, devices=jax.devices()[:2])),
        None,
        EVERYWHERE[0],
    )
    for epochs, parallel in enumerate(chain, start=1):
        with Checkpoints(tmp_path) as checkpoints:
            result = train(MODEL, parallel, epochs, checkpoints=checkpoints)
    for left, right in zip(whole, result.records, strict=True):
        np.testing.assert_allclose(left.losses["loss"], right.losses["loss"], rtol=1e-6)


def test_the_same_mesh_goes_on_bit_for_bit(tmp_path):
    parallel = EVERYWHERE[1]
    whole = train(MODEL, parallel, 3)
    for epochs in (2, 3):
        with Checkpoints(tmp_path) as checkpoints:
            result = train(MODEL, parallel, epochs, checkpoints=checkpoints)
    assert result.records == whole.records
    np.testing.assert_array_equal(
        result.state.params["nodes"], whole.state.params["nodes"]
    )


def test_metrics_are_the_same_bits_on_any_mesh(rng):
    """Also where users and items cannot be shared evenly, and of equal scores."""
    model = MF(dim=4, objective=BPR())
    context = make_context(LOG.interactions, SPEC)
    nodes = rng.integers(-2, 3, size=(96, 4)).astype(np.float32)
    targets = item_lists(rng.integers(0, 49, 150), rng.integers(0, 40, 150), 50)

    def run(data, part):
        mesh = make_mesh(data, part) if data * part > 1 else None
        spread = shard_context(context, mesh and Parallel(mesh))
        params = {"nodes": jnp.asarray(nodes)}
        if mesh:
            params = jax.device_put(params, table_shardings(params, SPEC, mesh))
        return evaluate(
            model, params, spread, targets, ks=(3, 9), metrics=METRICS, mesh=mesh
        )

    one = run(1, 1)
    for sizes in ((2, 1), (8, 1), (2, 4)):
        assert run(*sizes) == one


@pytest.mark.parametrize("exchange", ["gather", "ring"])
def test_the_compiled_program_receives_what_the_formula_says(exchange):
    """And the ring never holds the whole table."""
    problem = problems.synthetic(4000, 40_000)
    parallel = Parallel(make_mesh(2, 4), exchange=exchange)
    context = shard_context(
        make_context(problem.train, pad_spec(problem.spec, 4)), parallel
    )
    table = NamedSharding(parallel.mesh, PartitionSpec("model"))
    x = jax.ShapeDtypeStruct((4000, 32), jnp.float32, sharding=table)

    def both(graph, x, g):
        out, back = jax.vjp(lambda x: graph_sum(graph, x), x)
        return out, back(g)

    text = jax.jit(both).lower(context.graph, x, x).compile().as_text()
    received = collective_bytes(text)
    assert sum(received.values()) == expected_bytes(context, 32)
    assert ("f32[4000,32]" in text) == (exchange == "gather")
    once = jax.jit(graph_sum).lower(context.graph, x).compile().memory_analysis()
    assert (once.temp_size_in_bytes > 4000 * 32 * 4) == (exchange == "gather")
    assert imbalance(context)["edges"] == 1


class WholeBatches(LightGCN):
    """A model that does not say that its loss can be split."""

    splits_batch = False


def test_a_pmap_gives_other_models_the_whole_batch():
    model = WholeBatches(dim=8, layers=1)
    one, many = (train(model, where, 2) for where in (None, EVERYWHERE[0]))
    for left, right in zip(one.records, many.records, strict=True):
        np.testing.assert_allclose(left.losses["loss"], right.losses["loss"], rtol=1e-6)
