"""What a training run takes of each device, before there is any: bytes and seconds.

The bytes of tables, optimizer and training data are those of their arrays.  Those of
the work of a step are of its largest arrays, in numbers that were read from compiled
steps; tests hold the sums to within 15 % of ``compiled.memory_analysis()``.  Seconds
are bounds: bytes over bandwidths, with nothing in the way.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax

from recjax.console import text_table
from recjax.graphs import subgraph_size
from recjax.sharding import mesh_sizes, pad_spec
from recjax.training import Training, make_optimizer
from recjax.types import Spec

# Tables that a compiled step holds at once beside its state: the gradient and a layer
# of each propagation.  Of drawn neighbours: their rows, and where one node serves
# several, the rows at the edges.
_PER_NODE, _PER_EDGE = 5.5, 1.75
# Rows of the batch, in and after the loss.
_PER_BATCH_ROW = 6
# Of the sums of a device, those that belong to another one; how often rows that were
# looked up go between devices.
_MOVED, _SPREAD = 0.6, 5
# Numbers that an epoch keeps of each pair: user, item and weight, in its order.
_ORDER = 12


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device and what connects it; the defaults are those of an NVIDIA H100 SXM."""

    memory: float = 80e9
    """Bytes of a device."""
    bandwidth: float = 3.35e12
    """Bytes a second between a device and its memory."""
    link: float = 450e9
    """Bytes a second that a device receives from others of its host."""
    network: float = 50e9
    """Bytes a second that a device receives from other hosts: one 400 Gbit/s port."""
    per_host: int = 8
    """Devices of a host."""

    def __post_init__(self) -> None:
        """Refuses what cannot be divided by."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} {value} must be positive")


class Plan(NamedTuple):
    """What one device of several takes.

    Attributes:
      devices: P.
      held: bytes by what they are for.
      exchanged: bytes that arrive at a device in a step, by what they are.
      seconds: bounds of a step, by what moves the bytes.
      steps: of an epoch.
      memory: bytes that there are.
    """

    devices: int
    held: dict[str, float]
    exchanged: dict[str, float]
    seconds: dict[str, float]
    steps: int
    memory: float

    @property
    def total(self) -> float:
        """Bytes of a device."""
        return sum(self.held.values())

    @property
    def bottleneck(self) -> str:
        """What would stop a larger or a faster run, in a sentence."""
        if self.total > self.memory:
            most = max(self.held, key=lambda name: self.held[name])
            return f"memory: it does not fit, and {most} takes most of it"
        what = max(self.seconds, key=lambda name: self.seconds[name])
        if what == "exchange":
            most = max(self.exchanged, key=lambda name: self.exchanged[name])
            return f"exchange: most of what arrives are {most}"
        return "memory bandwidth"


def plan(
    model: Any,
    spec: Spec,
    num_pairs: int,
    *,
    training: Training = Training(),  # noqa: B008 - frozen
    parallel: str = "none",
    chip: Chip = Chip(),
) -> Plan:
    """Bytes a device, bytes exchanged a step, and what these take at best.

    Args:
      model: of one table of nodes: MF, LightGCN or DirectAU.
      spec: sizes of the dataset.
      num_pairs: training pairs n; the graph has E = 2 n edges.
      training: batch size and fanouts.
      parallel: as ``recjax train`` takes it; the devices need not be there.
      chip: of which kind they are.

    Returns:
      The plan.

    Raises:
      ValueError: the model is none of these, or the sizes make no sense.

    Examples:
      >>> from recjax.models import LightGCN
      >>> spec = Spec(num_users=60_000_000, num_items=40_000_000)
      >>> found = plan(LightGCN(), spec, 500_000_000, parallel="mesh:model=8")
      >>> [(name, round(size / 1e9)) for name, size in found.held.items()]
      [('tables', 3), ('optimizer', 6), ('graph', 2), ('lists', 11), ('work', 44)]
      >>> found.bottleneck
      'exchange: most of what arrives are gathered tables'
    """
    data, parts, exchange = mesh_sizes(parallel)
    if min(spec.num_users, spec.num_items, num_pairs, training.batch_size) < 1:
        raise ValueError(
            f"{spec.num_users} users, {spec.num_items} items and {num_pairs} "
            "interactions: each must be at least 1"
        )
    if num_pairs > spec.num_users * spec.num_items:
        raise ValueError(
            f"{num_pairs} interactions are more than the {spec.num_users} x "
            f"{spec.num_items} pairs that there are"
        )
    sampled = training.fanouts is not None
    hops = getattr(model, "hops", None)
    if sampled and hops is not None and len(training.fanouts or ()) != hops:
        raise ValueError(f"fanouts {training.fanouts} must be one a hop: {hops}")
    spec = pad_spec(spec, parts)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), spec))
    if hops is None or set(params) != {"nodes"}:
        raise ValueError(
            f"{type(model).__name__} has more than a table of nodes and a graph: a "
            "plan can be made for mf, lightgcn and directau"
        )
    optimizer = make_optimizer(training, num_pairs)
    state = jax.eval_shape(optimizer.init, params)
    size = _Sizes(
        nodes=sum(spec[:3]),
        pairs=num_pairs,
        row=params["nodes"].dtype.itemsize * model.dim,
        hops=hops,
        rows=training.batch_size * (2 + model.num_negatives),
        batch=training.batch_size,
        data=data,
        parts=parts,
    )
    table = size.nodes * size.row / parts
    held = {
        "tables": table,
        "optimizer": _bytes(state) / parts,
        **_training_data(
            size, spec, exchange, by=training.sample_by if sampled else ""
        ),
    }
    if sampled:
        nodes, edges = subgraph_size(size.rows, size.nodes, training.fanouts or ())
        held["work"] = _ORDER * num_pairs + _sampled_work(size, nodes, edges)
        exchanged = _sampled_exchange(size, nodes, edges, training.capacity)
        # Rows in and out of tables and moments, and one pass a layer.
        moved = (10 + 4 * hops) * nodes * size.row
    else:
        held["work"] = _ORDER * num_pairs + _whole_work(size, table, exchange)
        exchanged = _whole_exchange(size, table)
        # Both ways, an edge brings a row; then Adam passes over four tables.
        sums = 2 * hops * (2 * num_pairs / parts * (size.row + 8) + 2 * table)
        moved = sums + 9 * table
    arrives = sum(exchanged.values())
    devices = data * parts
    speed = chip.link if devices <= chip.per_host else chip.network
    seconds = {"memory": moved / chip.bandwidth, "exchange": arrives / speed}
    steps = -(-num_pairs // training.batch_size)
    return Plan(devices, held, exchanged, seconds, steps, chip.memory)


class _Sizes(NamedTuple):
    """Numbers that the bytes follow from.

    Attributes:
      nodes: N.
      pairs: n.
      row: bytes of a row of the table.
      hops: L.
      rows: of a batch: users, items and negatives.
      batch: B.
      data: parts of the batch.
      parts: parts of the tables, M.
    """

    nodes: int
    pairs: int
    row: int
    hops: int
    rows: int
    batch: int
    data: int
    parts: int


def _bytes(tree: Any) -> int:
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )


def _training_data(size: _Sizes, spec: Spec, exchange: str, by: str) -> dict:
    """The arrays of a `recjax.types.Context`, of four bytes each."""
    edges, own = 2 * size.pairs / size.parts, size.nodes / size.parts
    # Senders, receivers, weights and reverse edges; the row pointer is everywhere.
    graph = 4 * edges + size.nodes + (edges if by == "weight" else 0)
    if size.parts > 1:
        graph += 2 * own
    if exchange == "ring":
        # By turn, three numbers an edge, as many as the fullest device has: users have
        # edges to items only, so that a device has half of its turns off.
        graph += 2 * 3 * edges + size.nodes
    lists = 5 * size.pairs + 2 * spec.num_users + 2 * spec.num_items
    return {"graph": 4.0 * graph, "lists": 4.0 * lists}


def _whole_work(size: _Sizes, table: float, exchange: str) -> float:
    gathered = 0.0
    if size.parts > 1 and size.hops:
        # Of a ring, the part that is used, the one under way, and both ways at once.
        gathered = table * (4 if exchange == "ring" else size.parts)
    batch = _PER_BATCH_ROW * size.rows / size.data * size.row
    return (size.hops + 1) * table + gathered + batch


def _sampled_work(size: _Sizes, nodes: int, edges: int) -> float:
    if not size.hops:
        return (_PER_NODE * nodes + _PER_BATCH_ROW * size.rows) / size.data * size.row
    # Every device holds the whole drawn graph.  A hop may have each node once.
    at_edges = _PER_EDGE * edges if nodes < 1 + size.rows + edges else 0.0
    return (_PER_NODE * nodes + at_edges) * size.row


def _whole_exchange(size: _Sizes, table: float) -> dict:
    """What XLA sends for a step over the whole graph."""
    away = 1 - 1 / size.parts
    # The derivatives of each layer's rows, and of the table's own, are added apart.
    adds = size.hops + 2 if size.hops else 1
    found = {}
    if size.parts > 1 and size.hops:
        found["gathered tables"] = 2 * size.hops * away * table * size.parts
        found["sums of other devices"] = 2 * size.hops * _MOVED * table
    if size.data > 1:
        found["gradients"] = adds * 2 * (1 - 1 / size.data) * table
    if size.data * size.parts > 1:
        rows = 2 * size.rows * size.row
        found["rows of the batch"] = rows * (adds * away + (size.data > 1))
    return found


def _sampled_exchange(
    size: _Sizes, nodes: int, edges: int, capacity: int | None
) -> dict:
    """What the all-to-all of ids, rows and gradients brings."""
    own = math.ceil(nodes / (size.data * size.parts))
    own = own if capacity is None else min(capacity, own)
    found = {}
    if size.parts > 1:
        others = (size.parts - 1) * own
        # Senders and weights, each from the device that has the edge.
        found["drawn edges"] = 2 * 8 * edges
        found["ids of rows"] = 2 * 4 * others
        found["rows and their gradients"] = 2 * others * size.row
    if size.data > 1:
        found["gradients of other parts of the batch"] = (
            (size.data - 1) * size.parts * own * (size.row + 4)
        )
    if size.data * size.parts > 1:
        # XLA brings them to where the loss is computed, and their derivatives back.
        found["rows of the batch"] = _SPREAD * nodes * size.row
    return found


def plan_table(found: Plan) -> str:
    """A plan for a terminal.

    Args:
      found: from `plan`.

    Returns:
      Lines.

    Examples:
      >>> small = Plan(2, {"tables": 8e9}, {"rows": 5e6}, {"exchange": 0.1}, 60, 9e9)
      >>> print(plan_table(small))
      held by each of 2 devices          bytes
      tables                           8.00 GB
      total, of 9.00 GB                8.00 GB
      <BLANKLINE>
      arrives at each in a step          bytes
      rows                             5.00 MB
      <BLANKLINE>
      a step takes at least            seconds
      exchange                          100 ms
      <BLANKLINE>
      an epoch of 60 steps: 6 s at least
      bottleneck: exchange: most of what arrives are rows
    """
    held = [[name, size_text(size)] for name, size in found.held.items()]
    held.append([f"total, of {size_text(found.memory)}", size_text(found.total)])
    exchanged = [[name, size_text(size)] for name, size in found.exchanged.items()]
    seconds = [[name, time_text(value)] for name, value in found.seconds.items()]
    tables = [
        (f"held by each of {found.devices} devices", "bytes", held),
        ("arrives at each in a step", "bytes", exchanged or [["nothing", "0 B"]]),
        ("a step takes at least", "seconds", seconds),
    ]
    longest = max(len(row[0]) for _, _, rows in tables for row in rows)
    width = max(longest, *(len(name) for name, _, _ in tables))
    parts = [
        text_table([name.ljust(width), unit.rjust(8)], rows)
        for name, unit, rows in tables
    ]
    epoch = time_text(found.steps * max(found.seconds.values()))
    end = f"an epoch of {found.steps:,} steps: {epoch} at least\n"
    return "\n\n".join(parts) + f"\n\n{end}bottleneck: {found.bottleneck}"


def size_text(size: float) -> str:
    """Bytes as people write them, in powers of 1000.

    Args:
      size: bytes.

    Returns:
      Three digits and a unit.

    Examples:
      >>> size_text(2.5e10), size_text(640)
      ('25.0 GB', '640 B')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            digits = f"{size / factor:#.3g}".removesuffix(".")
            return f"{digits} {unit}"
    return f"{size:.0f} B"


def time_text(seconds: float) -> str:
    """Seconds as people write them.

    Args:
      seconds: a time.

    Returns:
      Three digits and a unit.

    Examples:
      >>> time_text(3.1e-5), time_text(0.25), time_text(7200)
      ('31 µs', '250 ms', '2 h')
    """
    units = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3))
    for unit, length in units:
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
