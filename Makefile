# Two commands are enough: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Arguments of `make serve`, for instance ARGS="--port 8000".
ARGS ?=
# Arguments of `make test`: two processes, each with whole files, so that servers and models are started once.
PYTEST_ARGS ?= -n 2 --dist loadfile
# Extra arguments for installing torch, for instance an index with other builds.
TORCH_ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo serve test lint clean
.DEFAULT_GOAL := demo

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP) -c constraints.txt torch==2.13.0 numpy $(TORCH_ARGS)
	$(PIP) -c constraints.txt -e ".[demo]"
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) -c constraints.txt -e ".[demo,test]"
	touch $@

# The versions of gradio that the WebUIs have, each in a folder of its own: their pins and ours clash.
GRADIO := $(VENV)/gradio-3.41.2/.done $(VENV)/gradio-4.40.0/.done
$(VENV)/gradio-3.41.2/.done: constraints-gradio3.txt
$(VENV)/gradio-4.40.0/.done: constraints-gradio4.txt
$(GRADIO): | $(VENV)/pyvenv.cfg
	rm -rf $(@D)
	@$(PIP) --no-deps --only-binary :all: --target $(@D) -r $< && touch $@ || \
	{ $(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 13))" && \
	  echo "$< cannot be installed on this Python: the panel's tests with it are skipped"; }

setup: $(VENV)/.test

demo: $(VENV)/.demo
	$(BIN)/python -m clora.cli demo --steps 20 --seed 1

# The page; gradio stands before the environment's own packages for this process only.
serve: $(VENV)/.demo $(VENV)/gradio-4.40.0/.done
	PYTHONPATH=$(VENV)/gradio-4.40.0 $(BIN)/python -m clora.cli serve $(ARGS)

test: $(VENV)/.test $(GRADIO)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) outputs
