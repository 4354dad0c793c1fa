# Two commands do all set-up: make demo and make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := out/demo

.PHONY: demo test heavy faults lint types bench clean

demo: $(INSTALLED)
	mkdir -p $(DEMO)
	$(BIN)/python compare.py seed efficientdet-d0 $(DEMO)/efficientdet-d0
	$(BIN)/python convert.py $(DEMO)/efficientdet-d0 $(DEMO)/efficientdet-d0.pth
	$(BIN)/python compare.py nodes $(DEMO)/efficientdet-d0 --candidate $(DEMO)/efficientdet-d0.pth \
		--json $(DEMO)/nodes.json
	@echo "PyTorch model: $(DEMO)/efficientdet-d0.pth; every node: $(DEMO)/nodes.json"

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Full-size models, minutes and gigabytes.
heavy: $(INSTALLED)
	$(BIN)/python -m pytest -m heavy

# Every fault of the catalogue in full models: an hour or two; FAULTS="--models d0" for less.
faults: $(INSTALLED)
	PYTHONPATH=.:tests $(BIN)/python -m faults.run $(FAULTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.conversion
	$(BIN)/python -m benchmarks.forward
	$(BIN)/python -m benchmarks.soft_nms

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[tensorflow,images,coco,traces,test,dev]'
	touch $@

clean:
	rm -rf $(VENV) out
