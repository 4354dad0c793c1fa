# Two commands do all set-up: make demo installs what it needs itself, make test the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
# Each says that a set of packages is installed.
FOR_DEMO := $(VENV)/.installed-for-demo
ALL := $(VENV)/.installed-all
DEMO := out/demo

.PHONY: demo install test lowest heavy fuzz fuzz-all faults pairing coco reports docs lint types bench gpu clean

demo: $(FOR_DEMO)
	@mkdir -p $(DEMO)
	@echo "== 1 of 3: a checkpoint of D0 in Google's format, with seeded weights"
	$(BIN)/python compare.py seed efficientdet-d0 $(DEMO)/efficientdet-d0
	@echo "== 2 of 3: converted to PyTorch"
	$(BIN)/python convert.py $(DEMO)/efficientdet-d0 $(DEMO)/efficientdet-d0.pth
	@echo "== 3 of 3: every node of Google's graph and of the PyTorch model, side by side;" \
		"all figures go to $(DEMO)/nodes.json"
	$(BIN)/python compare.py nodes $(DEMO)/efficientdet-d0 --candidate $(DEMO)/efficientdet-d0.pth \
		--json $(DEMO)/nodes.json

# All that tests, linters and every command need.
install: $(ALL)

# Two processes of one thread each: most tests keep less than one core busy.
test: $(ALL)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# A part of the tests, with the lowest versions of all dependencies.
LOWEST := out/lowest
lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-lowest.txt '.[tensorflow,images,coco,traces,reports]' pytest pytest-xdist
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile tests/efficientdet_spec tests/converter \
		tests/parity/settings tests/efficientdet_parity tests/test_walls.py

# Full-size models, minutes and gigabytes.
heavy: $(ALL)
	$(BIN)/python -m pytest -m heavy

# Every reader is given damaged files, and a few commands are killed: five minutes, the same for the
# same SEED. What fails is kept under out/fuzz/failures.
SEED ?= 1
FUZZ := OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python -m fuzzing.run --seed $(SEED)
fuzz: $(ALL)
	$(FUZZ) --seconds 270 --kills 5 --commands convert --json out/fuzz/fuzz.json $(OPTIONS)

# More than 300,000 damaged files and 200 kills, about an hour and a quarter; makes the table of
# docs/security.md.
fuzz-all: $(ALL)
	$(FUZZ) --kills 200 --json out/fuzz/fuzz-all.json --markdown docs/security.md $(OPTIONS)

# Every fault of the catalogue in full models: an hour or two; FAULTS="--models d0 --one-place" for less.
faults: $(ALL)
	PYTHONPATH=.:tests $(BIN)/python -m faults.run $(FAULTS)

# How many nodes of ports in many styles are found without names, and how many rightly: some minutes.
PAIRING := out/pairing.json
pairing: $(ALL)
	@mkdir -p $(dir $(PAIRING))
	PYTHONPATH=.:tests $(BIN)/python -W ignore -m pairing_figures --json $(PAIRING) $(OPTIONS)

# Both frameworks over all of val2017; docs/coco.md says where to get it.
coco: $(ALL)
	@test -n "$(COCO)" -a -n "$(CHECKPOINT)" || { echo "make coco COCO=FOLDER CHECKPOINT=...; docs/coco.md says how to get the images"; exit 2; }
	$(BIN)/python compare.py coco $(CHECKPOINT) --images $(COCO)/val2017 \
		--annotations $(COCO)/annotations/instances_val2017.json --out out/coco --stage-swap $(OPTIONS)

LITE := $(addprefix efficientdet-lite,0 1 2 3 3x 4)
# All models with seeded weights, at full size; with TRAINED=CHECKPOINT and COCO images that one too.
reports: $(ALL)
	$(BIN)/python compare.py report all $(if $(TRAINED),trained-d0=$(TRAINED)) --seeded --no-data --closeups 6 \
		--pictures 0 --results out/reports --out reports/published $(OPTIONS)
	$(BIN)/python compare.py report $(LITE) --seeded --no-data --closeups 6 \
		--pictures 0 --results out/reports_lite --out reports/published_lite $(OPTIONS)

# The tables of docs/results.md and the JSON schemas in docs/schema, from the records of parity/results.
docs: $(ALL)
	$(BIN)/python -m parity.results.documentation

lint: $(ALL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(ALL)
	$(BIN)/mypy

bench: $(ALL)
	@mkdir -p out
	$(BIN)/python -m benchmarks.run --json out/benchmarks.json
	$(BIN)/python -m benchmarks.verification
	$(BIN)/python -m benchmarks.soft_nms
	$(BIN)/python -m benchmarks.observation

# On a machine with a GPU, in an environment with PyTorch for CUDA and '.[traces]' of this package: no
# TensorFlow, no downloads. benchmarks/README.md says what it checks; OPTIONS="d0 d1 --seconds 300" for less.
GPU_PYTHON ?= $(PYTHON)
gpu:
	@mkdir -p out
	$(GPU_PYTHON) -m benchmarks.gpu --json out/gpu.json $(OPTIONS)

$(FOR_DEMO): pyproject.toml constraints.txt
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and TensorFlow in $(VENV): minutes, and about 1 GB to download" \
		"(several where pip's index has PyTorch with CUDA)"
	$(PIP) --editable '.[tensorflow]'
	@touch $@

$(ALL): $(FOR_DEMO)
	@echo "installing the rest in $(VENV): images, COCO, traces, cluster, reports, tests, linters"
	$(PIP) --editable '.[tensorflow,images,coco,traces,cluster,reports,test,dev]'
	@touch $@

clean:
	rm -rf $(VENV) out
