# Every command a contributor or CI needs. Needs Python 3.11+ and make; everything else goes into .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
KEEP   ?=
ROUNDS ?= 200

# Where compiled modules may not be kept, every start of costd compiles them all again, which is most of its work.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo run test lint proto prices schema certs bench bench-proxy soak clean
.DEFAULT_GOAL := help

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml clients/python/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("costd needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which with: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -e clients/python
	touch $@

venv: $(STAMP) ## Make .venv with costd and its development tools

demo: $(STAMP) ## A hub and two sidecars, a link that is cut and healed, and the bill (KEEP=1 leaves them running)
	@$(BIN)/python -m scripts.demo $(if $(KEEP),--keep)

run: $(STAMP) ## Start a sidecar in the foreground
	@exec $(BIN)/costd run

lint: $(STAMP) ## Linters and type checks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint ## The whole suite, linters and type checks included
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

proto: $(STAMP) ## Regenerate the gRPC code from proto/
	$(BIN)/python scripts/generate_protos.py

prices: $(STAMP) ## Recompile the bundled price table from the pinned price list
	$(BIN)/python scripts/compile_prices.py

schema: $(STAMP) ## Rewrite the whole schema from the migrations, after adding one
	$(BIN)/python scripts/write_schema.py

certs: $(STAMP) ## A certificate authority, a server and a client certificate for development, under certs/
	$(BIN)/python scripts/make_certs.py certs

bench: $(STAMP) ## Speed and memory, each beside a yardstick measured in the same run
	$(BIN)/python -m bench

bench-proxy: $(STAMP) ## What the proxies add to a call, beside LiteLLM's (installed on demand, some minutes)
	$(BIN)/python -m bench proxy proxy-litellm

soak: $(STAMP) ## The kill -9 test, and what may happen to a fleet, for ROUNDS rounds (200)
	COSTD_KILL_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -m soak -o addopts='-q -p no:cacheprovider' tests

clean: ## Remove what was built
	rm -rf $(VENV) build dist certs .mypy_cache .ruff_cache daemon/*.egg-info clients/python/*.egg-info
