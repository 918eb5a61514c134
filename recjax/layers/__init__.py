"""Graph layers: pure functions of parameters, a `jraph.GraphsTuple` and arrays."""

from recjax.layers._message import init_message_passing, message_passing
from recjax.layers._propagate import newcomer_sum, propagate, propagate_layers

__all__ = [
    "init_message_passing",
    "message_passing",
    "newcomer_sum",
    "propagate",
    "propagate_layers",
]
