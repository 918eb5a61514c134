# Everything runs in .venv, made from $(PYTHON) where it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint types check bench clean

demo: $(VENV)/.examples  ## train on MovieLens and recommend ten titles
	rm -rf runs/demo
	$(BIN)/recjax train movielens-small --batch-size 1024 --epochs 80 --out runs/demo
	$(BIN)/recjax recommend runs/demo --user 42

test: lint types check  ## lint, type check and the whole test suite

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.bench  ## throughput; DATA names a folder such as ../shared/data/gowalla
	$(BIN)/python -m benchmarks.train_step --dataset $(DATA)
	$(BIN)/python -m benchmarks.evaluate --dataset $(DATA)

types: $(VENV)/.test
	$(BIN)/pyrefly check

check: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
