# make demo   set up a private .venv and run the quickstart
# make test   set up what tests need and run them
# make test-long   the tests that take minutes: the quickstart, kills and resumptions, every command of the course
# make test-arm64  the runtime's wheel on an emulated Raspberry Pi 4 and 5: docs/arm64.md
# make test-all    all of them, the largest networks, and more moments of an interruption
# make lint   ruff, mypy, import-linter

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCAL := -e "./converters[cpu]" -e "./runtime[onnx]"
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
INSTALL := uv pip install --quiet --python $(BIN)/python -c constraints.txt
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
endif
PROJECTS := pyproject.toml converters/pyproject.toml runtime/pyproject.toml constraints.txt

.PHONY: demo test test-long test-arm64 test-all lint clean

demo: $(VENV)/.demo
	@$(BIN)/edgecnn quickstart --out runs/quickstart --overwrite

test: $(VENV)/.test
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not all and not long and not arm64"

test-long: $(VENV)/.test
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "long and not all"

test-arm64: $(VENV)/.test
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m arm64 tests/system/arm64

test-all: $(VENV)/.test
	@$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"edgecnn needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: name another with PYTHON=python3.12")'
ifdef UV
	@uv venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
else
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3-venv is missing: run 'sudo apt install python3-venv'"; exit 1; }
endif

# The stamps make sure that nothing is installed twice.
$(VENV)/.demo: $(VENV)/bin/python $(PROJECTS)
	@echo "Setting up $(VENV) (TensorFlow and the engines, about 2 GB)"
	@$(INSTALL) $(LOCAL) -e ".[cpu]"
	@$(BIN)/python -c 'import cv2' || { echo "OpenCV needs system libraries: run 'sudo apt install libgl1 libglib2.0-0'"; exit 1; }
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@$(INSTALL) $(LOCAL) -e ".[cpu,test]"
	@touch $@

$(VENV)/.lint: $(VENV)/.demo
	@$(INSTALL) $(LOCAL) -e ".[cpu,test,lint]"
	@touch $@

clean:
	rm -rf $(VENV) runs
