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

demo: .venv/ready  ## the bundled Nano on every processor target, proven, measured and drawn, on generated images
	test -d demo/scenes || $(BIN)/python -m yolox_deploy.data.scenes demo/scenes --train 64 --val 64
	$(BIN)/yolox-deploy export --weights yolox_deploy/weights/yolox-nano-scenes.safetensors --name scenes \
		--target onnx openvino ncnn --precision fp32 fp16 int8 --calibration demo/scenes/train \
		--verify-images demo/scenes/val --data demo/scenes --output demo/artifacts --overwrite
	$(BIN)/yolox-deploy detect demo/artifacts/scenes-openvino-int8 demo/scenes/val --output demo/pictures
	$(BIN)/python -m benchmarks.targets demo/artifacts
	@echo "Artifacts and their proofs: demo/artifacts/. Pictures to look at: demo/pictures/"

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
