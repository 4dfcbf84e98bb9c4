# Two commands matter: `make lab` shows the whole farm at work, `make test` proves it.
# Nothing but git, make and Python 3.11 or later has to be there beforehand.

VENV := .venv
BIN := $(VENV)/bin
SUPPLY := $(VENV)/supply
# The first Python on PATH that is new enough; `make PYTHON=/path/to/python lab` chooses another one.
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
# Wheels whose hashes are in the lock, and no other file of any index.
LOCKED := install --only-binary :all: --require-hashes -r
#: Options for `sheepfold lab`, as in `make lab ARGS="--blend my.blend --frames 1-24 --keep"`.
ARGS ?=
#: Most tests wait for processes of their own; a file's tests share them and stay together.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile
#: Options for pytest, as in `make test PYTEST_ARGS="-k lease"`.
PYTEST_ARGS ?=

.PHONY: help lab test fuzz check test-scenes test-compose chaos bench docs reference format lock sbom audit image-digests \
	release clean

help:
	@echo "make lab           a farm on this machine: server, coordinator, Redis, worker, Blender; 12 frames of a demo"
	@echo "make test          every test: unit, integration, acceptance"
	@echo "make fuzz          strangers' bytes for everything that reads them, 20 seconds each"
	@echo "make test-scenes   over a hundred small scenes of every kind, by the farm and by bare Blender; some minutes"
	@echo "make check         linters, types, import contracts, and the documentation's site, built strictly"
	@echo "make test-compose  the same farm in containers (needs a Docker Engine and docker-compose)"
	@echo "make chaos         324 frames while everything is killed at random; ends with a table of what became of them"
	@echo "make bench         how fast the farm is, beside what this machine could do at best; a quarter of an hour"
	@echo "make docs          serves the documentation on http://127.0.0.1:8000/"
	@echo "make reference     writes the parts of the documentation that are made from the code"
	@echo "make format        formats the code"
	@echo "make lock          writes locks/ from pyproject.toml: every dependency by version and hash"
	@echo "make sbom          lists the installed command's dependencies as CycloneDX, in dist/sbom.cdx.json"
	@echo "make audit         asks the advisory service about every locked version"
	@echo "make image-digests names the images below ours by digest, in ARGS=studio.env"
	@echo "make release       makes dist/: the wheel, the locks, the list of dependencies, their checksums"
	@echo "make clean         removes what the other targets made, the Python environment included"

# These two are asked to, as root on Debian: apt-get brings what is missing. Others do with
# `make bench INSTALL_DEBIAN_PACKAGES=1`.
lab test: export INSTALL_DEBIAN_PACKAGES := 1

lab: $(VENV)/.lab
	@blender=$$($(BIN)/python -m tools.find_blender) && SHEEPFOLD_BLENDER="$$blender" $(BIN)/sheepfold lab $(ARGS)

test: $(VENV)/.test
	@$(BIN)/python -m tools.install_services
	@blender=$$($(BIN)/python -m tools.find_blender) && \
	SHEEPFOLD_BLENDER="$$blender" $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS) tests

fuzz: $(VENV)/.test
	@SHEEPFOLD_FUZZ_S=$${SHEEPFOLD_FUZZ_S:-20} $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS) tests/fuzz

# Sizes, regions, formats, views, cameras, frames, caches, names: pixels are equal, or the person was told.
test-scenes: $(VENV)/.test
	@$(BIN)/python -m tools.install_services
	@blender=$$($(BIN)/python -m tools.find_blender) && \
	SHEEPFOLD_BLENDER="$$blender" SHEEPFOLD_ALL_SCENES=1 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/acceptance/scenes/test_scenes.py

test-compose: $(VENV)/.test
	@$(BIN)/python -m pytest -s $(PYTEST_ARGS) tests/acceptance/operators/test_compose.py

# Every linter runs, also when the first finds something; the exit code tells whether any did.
check: $(VENV)/.test
	@failed=; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/basedpyright || failed=1; \
	$(BIN)/lint-imports || failed=1; \
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict || failed=1; \
	[ -z "$$failed" ]

# Kills workers, coordinator and Redis at random while the server fails one answer in ten; the seed is printed.
chaos: $(VENV)/.test
	@blender=$$($(BIN)/python -m tools.find_blender) && \
	SHEEPFOLD_BLENDER="$$blender" $(BIN)/python -m benchmarks.chaos $(ARGS)

# Speed, as ratios to the machine's own limits; wants a machine that does nothing else, and root for the LAN's cables.
bench: $(VENV)/.test
	@$(BIN)/python -m tools.install_services
	@blender=$$($(BIN)/python -m tools.find_blender) && \
	SHEEPFOLD_BLENDER="$$blender" $(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.test
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

reference: $(VENV)/.test
	@$(BIN)/python -m tools.make_reference

format: $(VENV)/.test
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# Versions stay where pyproject.toml allows them; newer ones: `make lock ARGS=--upgrade`, or "--upgrade-package NAME".
lock: $(VENV)/.supply
	@$(SUPPLY)/bin/python -m tools.supply_chain.locks $(ARGS)

sbom: $(VENV)/.supply
	@$(SUPPLY)/bin/python -m tools.supply_chain.sbom dist/sbom.cdx.json

# Exit code 1: a locked version has a known hole, or the advisory service could not be asked; the last line says which.
audit: $(VENV)/.supply
	@$(SUPPLY)/bin/python -m tools.supply_chain.audit

# Needs Docker and a registry that it reaches; ARGS names the file.
image-digests:
	@$(PYTHON) -m tools.supply_chain.image_digests $(ARGS)

# The same commit gives the same bytes: its time is the time of every file.
release: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
release: $(VENV)/.lab $(VENV)/.supply
	@rm -rf dist build/lib build/bdist.*
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@cp locks/requirements.lock locks/requirements-lab.lock dist/
	@$(SUPPLY)/bin/python -m tools.supply_chain.sbom dist/sbom.cdx.json
	@$(BIN)/python -m tools.supply_chain.checksums dist

clean:
	rm -rf $(VENV) .blender build dist lab-run *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run quick: they are renewed only when pyproject.toml asks for something else.
$(VENV)/.made:
	@[ -n "$(PYTHON)" ] || { echo "sheepfold needs Python 3.11 or later, and none is on PATH" >&2; exit 1; }
	@$(PYTHON) -m tools.make_venv $(VENV)
	@touch $@

$(VENV)/.lab: pyproject.toml locks/requirements-lab.lock | $(VENV)/.made
	@echo "Installing sheepfold and what the lab needs into $(VENV) (a minute or two, the first time)" >&2
	@$(PIP) $(LOCKED) locks/requirements-lab.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: pyproject.toml locks/requirements-test.lock | $(VENV)/.made
	@echo "Installing sheepfold, the lab and the tests' tools into $(VENV) (a minute or two, the first time)" >&2
	@$(PIP) $(LOCKED) locks/requirements-test.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.lab

# An environment of its own: these tools want other versions of what the farm uses.
$(VENV)/.supply: locks/requirements-supply.lock | $(VENV)/.made
	@$(PYTHON) -m tools.make_venv $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip --quiet --disable-pip-version-check --no-input $(LOCKED) locks/requirements-supply.lock
	@touch $@
