"""Throughput of recjax against its peers and the machine's own limit.

    python -m benchmarks.NAME --dataset PATH|synthetic:NODESxEDGES --out FILE.json

NAME is `propagate`, `train_step`, `evaluate`, `attention` or `fusion`; `growth` times
propagation against edges, nodes, width and layers; `parity` compares layers with those
of torch_geometric; `prepare` reads ten million rows; `render` turns the JSON files into
a page.  All run on whatever device JAX finds.  Peers come with
``pip install 'recjax[bench]'``; those that use a GPU share it with JAX, which needs
``XLA_PYTHON_CLIENT_PREALLOCATE=false`` for that.
"""
