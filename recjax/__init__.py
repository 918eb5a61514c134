"""recjax: graph recommendation in JAX, as pure functions over jraph graph tuples."""

__version__ = "0.1.0"
