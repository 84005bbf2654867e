# Every target makes .venv and installs what it needs by itself; the second time that is instant.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A machine with an NVIDIA GPU gets the gpu extra and stock CUDA torch; any other the CPU pins.
ifeq ($(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -c GPU),)
HAS_GPU :=
else
HAS_GPU := $(filter-out 0,$(shell nvidia-smi -L 2>/dev/null | grep -c GPU))
endif
ifdef HAS_GPU
EXTRAS ?= gpu,dev
CONSTRAINTS ?=
else
EXTRAS ?= cpu,tensorrt-rtx,dev
CONSTRAINTS ?= -c constraints.txt
endif
WORKERS ?= 2
# Waiting OpenMP threads sleep: spinning ones take the cores of the other test worker.
export OMP_WAIT_POLICY ?= PASSIVE
# Tests start a hundred processes, each of which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo train-tiny test fuzz kernel-table test-full lint clean

$(STAMP): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	touch $@

demo: $(STAMP)
	$(BIN)/xmask3d demo

# The weights that ship, from nothing; goes on where it was interrupted. WordNet has to be there
# (apt install wordnet-base).
SCHEDULE ?= night
train-tiny: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e ".[train-tiny]"
	$(BIN)/python -m xmask3d_rt.training.tiny --out train-tiny --schedule $(SCHEDULE)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not full and not gpu" -n $(WORKERS) --dist worksteal

# 20,000 broken inputs for every parser; `make test` tries 200 of them.
fuzz: $(STAMP)
	XMASK3D_FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest -m fuzz -n $(WORKERS) --timeout 3600

# Registers, spills and shared memory of every Triton kernel; fails where one does not fit.
kernel-table: $(STAMP)
	$(BIN)/python -m xmask3d_rt.kernels.aot

test-full: $(STAMP)
	$(BIN)/python -m pytest -m full -n 0

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy xmask3d_rt export kernels benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info
