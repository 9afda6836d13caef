# Two commands matter: `make sweep` (the main job) and `make test`. Both set up what they need first.
.PHONY: help setup setup-tests sweep docs test test-provision check lint lock clean

PYTHON ?= python3
SCENARIO ?= scenarios/quickstart.yaml
ARGS ?=

help:
	@echo 'make sweep   set up everything and sweep the bandwidth of $(SCENARIO)'
	@echo 'make test    set up everything and run all tests'
	@echo 'make docs    build the documentation into site/index.html'
	@echo 'make check   what this machine can and cannot do'
	@echo 'make lint    ruff and mypy'
	@echo 'make clean   remove what dead runs left behind (namespaces, links, cgroups)'

setup:
	@PYTHON=$(PYTHON) scripts/setup.sh

sweep: setup
	@.venv/bin/testbed sweep $(SCENARIO) --fallback $(ARGS)

# What only the tests use: a browser, Vagrant, a whole kernel as a process, Flower, the site's builder, the linters.
setup-tests:
	@PYTHON=$(PYTHON) scripts/setup.sh tests

test: setup-tests lint
	@scripts/test.sh $(ARGS)

# Strictly: a broken link or docstring fails. Opens from the file system: site/index.html.
docs: setup-tests
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet && echo 'built site/index.html'

# Several minutes and gigabytes, as root: scripts/provision.sh in a bare Debian made for it.
test-provision:
	@scripts/test_provision.sh

check: setup
	@.venv/bin/testbed check

lint: setup-tests
	@.venv/bin/ruff check --quiet . && .venv/bin/ruff format --check --quiet . && .venv/bin/mypy --no-error-summary

clean: setup
	@.venv/bin/testbed clean

# PyTorch and the CUDA libraries that its CUDA build alone pulls in: see requirements-torch.txt.
TORCH = torch torchvision triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
    nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
    nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

# Pins what pyproject.toml allows; run it on purpose, never as part of anything else. First all that the tests use, then
# the part of it that a user needs, so that users get exactly what was tested and wait for nothing else.
PIN = uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    $(foreach p,$(TORCH),--no-emit-package $(p)) --extra testbed --extra tables
lock:
	@$(PIN) --extra dev --extra docs --output-file requirements-dev.lock
	@$(PIN) --constraint requirements-dev.lock --output-file requirements.lock
