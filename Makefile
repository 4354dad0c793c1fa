# Two commands do all set-up: make demo and make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := out/demo

.PHONY: demo test lowest heavy faults coco reports docs lint types bench clean

demo: $(INSTALLED)
	mkdir -p $(DEMO)
	$(BIN)/python compare.py seed efficientdet-d0 $(DEMO)/efficientdet-d0
	$(BIN)/python convert.py $(DEMO)/efficientdet-d0 $(DEMO)/efficientdet-d0.pth
	$(BIN)/python compare.py nodes $(DEMO)/efficientdet-d0 --candidate $(DEMO)/efficientdet-d0.pth \
		--json $(DEMO)/nodes.json
	@echo "PyTorch model: $(DEMO)/efficientdet-d0.pth; every node: $(DEMO)/nodes.json"

# Two processes: most tests keep less than one core busy.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# A part of the tests, with the lowest versions of all dependencies.
LOWEST := out/lowest
lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-lowest.txt '.[tensorflow,images,coco,traces,reports]' pytest pytest-xdist
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile tests/efficientdet_spec tests/converter \
		tests/parity/settings tests/efficientdet_parity tests/test_walls.py

# Full-size models, minutes and gigabytes.
heavy: $(INSTALLED)
	$(BIN)/python -m pytest -m heavy

# Every fault of the catalogue in full models: an hour or two; FAULTS="--models d0" for less.
faults: $(INSTALLED)
	PYTHONPATH=.:tests $(BIN)/python -m faults.run $(FAULTS)

# Both frameworks over all of val2017; docs/coco.md says where to get it.
coco: $(INSTALLED)
	@test -n "$(COCO)" -a -n "$(CHECKPOINT)" || { echo "make coco COCO=FOLDER CHECKPOINT=...; docs/coco.md says how to get the images"; exit 2; }
	$(BIN)/python compare.py coco $(CHECKPOINT) --images $(COCO)/val2017 \
		--annotations $(COCO)/annotations/instances_val2017.json --out out/coco --stage-swap $(OPTIONS)

# All nine models with seeded weights, at full size; with TRAINED=CHECKPOINT and COCO images that one too.
reports: $(INSTALLED)
	$(BIN)/python compare.py report all $(if $(TRAINED),trained-d0=$(TRAINED)) --seeded --no-data --closeups 6 \
		--pictures 0 --results out/reports --out reports/published $(OPTIONS)

# The tables of docs/results.md and the JSON schemas in docs/schema, from the records of parity/results.
docs: $(INSTALLED)
	$(BIN)/python -m parity.results.documentation

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.conversion
	$(BIN)/python -m benchmarks.forward
	$(BIN)/python -m benchmarks.soft_nms
	$(BIN)/python -m benchmarks.detection

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[tensorflow,images,coco,traces,cluster,reports,test,dev]'
	touch $@

clean:
	rm -rf $(VENV) out
