# make demo and make test do all set-up on a fresh machine: Python 3.10 or newer and the package registry are enough.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile  # half the time: Python compiles what is imported
# Set by CI to requirements/ci.txt: every file is the one that the lock names by its hash, and nothing else is fetched.
# --no-deps, since the lock is complete, and pip would otherwise look at newer releases of what extras name.
LOCK ?=

.PHONY: demo test test-slow check docs clean lock audit sbom licences

# Installed anew whenever what to install changes.
.venv/ready: setup.cfg pyproject.toml constraints.txt requirements/supervision.txt $(LOCK)
	@echo "Installing into .venv: a minute or two."
	$(PYTHON) -m venv .venv
ifneq ($(LOCK),)
	$(PIP) --require-hashes --requirement requirements/build.txt
	$(PIP) --require-hashes --no-deps --no-build-isolation --requirement $(LOCK)
	$(PIP) --require-hashes --no-deps --requirement requirements/supervision.txt
endif
	$(PIP) $(if $(LOCK),--no-index --no-build-isolation) --constraint constraints.txt --editable ".[dev]"
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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile  # two processes, a core each

test-slow: .venv/ready  ## all variants, sizes and batches: about an hour
	$(BIN)/python -m pytest -m slow

check: .venv/ready  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py

# Sphinx and its theme, beside what they document; Python 3.11 or newer.
.venv/docs: .venv/ready setup.cfg requirements/docs.txt
	$(PIP) $(if $(LOCK),--require-hashes --no-deps --requirement requirements/docs.txt,--constraint constraints.txt --editable ".[docs]")
	touch $@

docs: .venv/docs  ## the documentation as a site, build/docs/index.html
	rm -rf build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo "The documentation: build/docs/index.html"

# What is installed, and where it comes from. The tools have an environment of their own, installed by hashes.
TOOLS := .venv/tools
# Where the CPU wheel of torch comes from; --find-links FOLDER where it is a file.
TORCH ?= --torch-backend cpu
COMPILE = $(TOOLS)/bin/uv pip compile --quiet --upgrade --generate-hashes --python $(TOOLS)/bin/python \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock" $(TORCH)

$(TOOLS)/ready: requirements/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --require-hashes --requirement $<
	touch $@

lock: $(TOOLS)/ready  ## requirements/*.txt anew: what CI installs, with the newest versions that constraints.txt allows
	$(COMPILE) setup.cfg --extra dev --constraint constraints.txt --output-file requirements/ci.txt
	$(COMPILE) setup.cfg --extra docs --constraint requirements/ci.txt --output-file requirements/docs.txt
	$(COMPILE) requirements/build.in --constraint requirements/ci.txt --output-file requirements/build.txt
	$(COMPILE) requirements/tools.in --output-file requirements/tools.txt

audit: $(TOOLS)/ready  ## known vulnerabilities of what CI installs, by OSV; needs a connection to it
	$(TOOLS)/bin/pip-audit --vulnerability-service osv --require-hashes --disable-pip --strict \
		--requirement requirements/ci.txt --requirement requirements/docs.txt

sbom: .venv/ready $(TOOLS)/ready  ## what is installed in .venv as a validated CycloneDX file, build/sbom.json
	mkdir -p build
	$(TOOLS)/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --validate --output-file build/sbom.json

licences: .venv/ready  ## the table in docs/licences.md anew
	$(BIN)/python -m benchmarks.licences docs/licences.md

clean:
	rm -rf .venv build dist demo *.egg-info runtimes/build runtimes/*.egg-info
