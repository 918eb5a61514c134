"""Eight host devices for every test, so that nothing is skipped for hardware."""

import os

# Before JAX starts: the device count is fixed when the backend is made.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
