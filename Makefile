# CELCOMBiller: `make run` starts it, `make test` tests it. Each does all of its own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find celcombiller twisted docs -type f -not -name '*.pyc') setup.py pyproject.toml
CONFIG_OPTION := $(if $(CONFIG),--config $(CONFIG))
export PATH := $(CURDIR)/$(BIN):$(PATH)
SHELL := bash

WORKERS ?= $(shell expr $$(nproc) + 2)
COMPILING := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python
PYTEST := $(COMPILING) -m pytest --numprocesses $(WORKERS) --dist loadgroup --max-worker-restart 0
# Each process imports all tests: 5 s of CPU time, and 14 s where `make lint` has not compiled them.
# A process that ends has no successor: pytest-xdist gives it no tests, and the run would stand still.
# Two more than there are cores, as tests with phones wait for most of their time; others have a lower priority.
LONG_ONLY := tests/chaos tests/system tests/village
# All of their tests are real or slow: where none of them is to run, no process imports them.

# $(call timed,what,command): run the command, and say how long it took.
timed = @SECONDS=0; $(2); status=$$?; echo "$(1): $$((SECONDS / 60)) min $$((SECONDS % 60)) s"; exit $$status

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## Install, make the database with a first administrator, start the biller in the foreground
	@celcombiller $(CONFIG_OPTION) init
	@exec twistd --nodaemon --pidfile= celcombiller $(CONFIG_OPTION)

test: lint prepare  ## Check all that a change must pass, real parts included (PYTEST_ARGS adds options, WORKERS=1 shows output at once)
	$(call timed,tests,HYPOTHESIS_PROFILE=ci $(PYTEST) $(PYTEST_ARGS))

test-fast: $(VENV)/.tested  ## Run what needs no real part, no root and little time: while one works (PYTEST_ARGS adds options)
	$(call timed,tests,HYPOTHESIS_PROFILE=dev $(PYTEST) $(LONG_ONLY:%=--ignore=%) -m "not real and not slow and not nightly" $(PYTEST_ARGS))

test-nightly: prepare  ## Run what takes long by its nature, and try every property many more times (PYTEST_ARGS adds options)
	$(call timed,tests,HYPOTHESIS_PROFILE=nightly $(PYTEST) --timeout 3600 -m "nightly or hypothesis" $(PYTEST_ARGS))

# A leap day and a new year begin a minute later; on a Monday in Brazil working hours do.
MOMENTS ?= 2028-02-28T23:59+00:00 2026-12-31T23:59+00:00 2026-11-30T07:59-03:00

test-moments: $(VENV)/.tested  ## Run what needs no real part as if it were another time: each of MOMENTS (PYTEST_ARGS adds options)
	for moment in $(MOMENTS); do HYPOTHESIS_PROFILE=dev $(PYTEST) -m "not real and not nightly" --moment $$moment $(PYTEST_ARGS) || exit; done

prepare: $(VENV)/.tested  ## Bring the real parts that the tests use: Asterisk in a chroot, SIPp, PostgreSQL, OsmoHLR
	$(call timed,preparation,bash tests/system/prepare.sh)

bench: $(VENV)/.installed  ## Measure the biller on this machine (BENCH_ARGS="--quick" takes a few minutes)
	celcombiller bench $(BENCH_ARGS)

lint: $(VENV)/.tested  ## Check style, types, imports and documents, and that the tests can be imported
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/towncrier build --draft > /dev/null
	@mkdir -p build; $(COMPILING) -m pytest --collect-only --quiet > build/tests || { tail build/tests; exit 1; }
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: $(VENV)/.tested  ## Write the reference pages from the code, then build the documentation in build/site
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pictures: prepare  ## Draw the pictures of the documents anew, by the Chromium of the tests
	$(BIN)/python -m tests.system.console.pictures docs/images

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "CELCOMBiller needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# An ordinary install, not an editable one: twistd does not see the plugin of an editable one. It is made anew when a
# source is newer, so the installed copy is always the tree's. `twistd --help` writes Twisted's cache of plugins. Both
# programs are tried before the tests' own requirements can hide that one of ours is missing.
$(VENV)/.installed: $(VENV)/bin/pip $(SOURCES) constraints.txt
	@rm -rf build  # setuptools would install from it what the tree no longer has
	$(call timed,installation,$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt .)
	@$(BIN)/twistd celcombiller --help > /dev/null
	@$(BIN)/celcombiller --help > /dev/null
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(call timed,installation of the tests,$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[test]')
	@touch $@

ASSETS := celcombiller/console/assets

assets:  ## Copy what the pages use of others from npm, in the versions of the lock (it needs npm and a network)
	rm -rf build/assets && mkdir -p build/assets
	cp $(ASSETS)/package.json $(ASSETS)/package-lock.json build/assets/
	cd build/assets && npm ci --ignore-scripts
	cp build/assets/node_modules/htmx.org/dist/htmx.min.js $(ASSETS)/htmx.min.js
	cp build/assets/node_modules/@picocss/pico/css/pico.min.css $(ASSETS)/pico.min.css
	cp build/assets/node_modules/uplot/dist/uPlot.iife.min.js build/assets/node_modules/uplot/dist/uPlot.min.css $(ASSETS)/
	cd $(ASSETS) && sha256sum htmx.min.js pico.min.css uPlot.iife.min.js uPlot.min.css > SHA256SUMS

messages: $(VENV)/.tested  ## Bring new texts of the pages into the catalogues of celcombiller/locale, to be translated
	mkdir -p build
	cd celcombiller && pybabel extract --sort-output -F locale/babel.cfg --no-location -o ../build/messages.pot .
	for language in pt_BR es; do pybabel update --no-fuzzy-matching --ignore-obsolete --omit-header -w 118 -i build/messages.pot -D celcombiller -d celcombiller/locale -l $$language; done

bench-schedules: $(VENV)/.tested  ## Credit a million members on each database, while calls go on (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/schedule_credits.py $(BENCH_ARGS)

bench-fees: $(VENV)/.tested  ## Take a fee from a million members as well, and compare (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/schedule_credits.py --fees $(BENCH_ARGS)

bench-vouchers: $(VENV)/.tested  ## Make and redeem vouchers on each database (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/vouchers.py $(BENCH_ARGS)

bench-rest: $(VENV)/.tested  ## Ask the API of a million rows on each database, and stall its reactor (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/rest_api.py $(BENCH_ARGS)

bench-rates: $(VENV)/.tested  ## Find rates among a million prefixes, and load them beside a reactor (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/rate_lookup.py $(BENCH_ARGS)

clean:  ## Remove what was built (not the database)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

bench-slices: $(VENV)/.tested  ## Time to Dial beside 15,000 live calls, with and without slices (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/live_calls.py $(BENCH_ARGS)

bench-attacks: $(VENV)/.tested  ## Time to Dial while clients use up each limit (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/attacks.py $(BENCH_ARGS)

bench-console: $(VENV)/.tested  ## Time to Dial while 50 people click through the console (BENCH_ARGS adds options)
	$(BIN)/python benchmarks/console_pages.py $(BENCH_ARGS)

SECONDS ?= 300
DATABASE ?= sqlite

chaos: $(VENV)/.tested  ## Break everything for SECONDS=300 on DATABASE=sqlite or postgresql, then check each charge (SEED=… again)
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) --database $(DATABASE) --seed "$(SEED)" $(CHAOS_ARGS)

.PHONY: assets messages pictures chaos help run test test-fast test-moments test-nightly prepare bench bench-schedules bench-fees bench-vouchers bench-rest bench-attacks bench-console bench-rates bench-slices lint docs clean
