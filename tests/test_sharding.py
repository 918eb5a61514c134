"""Many devices give what one gives."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from recjax.graphs import make_graph
from recjax.sharding import make_mesh, read_parallel, shard_graph
from recjax.sparse import graph_sum
from recjax.types import Spec


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
