"""Many devices give what one gives."""

import jax
import pytest

from recjax.sharding import make_mesh, read_parallel


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
