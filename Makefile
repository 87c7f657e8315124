# make demo and make test do all set-up on a fresh machine: Python 3.10 or newer and the package registry are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check clean

# Installed anew whenever what to install changes.
.venv/ready: setup.cfg pyproject.toml constraints.txt
	@echo "Installing into .venv: a minute or two."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/ready  ## a seeded Nano: exported, proven, run on generated images
	$(BIN)/python -m yolox_deploy.data.shapes demo/images
	$(BIN)/yolox-deploy export --seeded --model yolox-nano --verify-images demo/images --output demo --overwrite
	$(BIN)/yolox-deploy detect demo/yolox-nano-seeded-onnx-fp32 demo/images --score-threshold 0.1 --output demo/pictures
	@echo "The artifact and its proof: demo/yolox-nano-seeded-onnx-fp32/. Pictures to look at: demo/pictures/"

test: .venv/ready  ## what CI runs
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/ready  ## all variants, sizes and batches: about an hour
	$(BIN)/python -m pytest -m slow

check: .venv/ready  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist demo *.egg-info runtimes/build runtimes/*.egg-info
