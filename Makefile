# Each target does all of its set-up in .venv; PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
DASK_AWKWARD := .venv-dask-awkward
PEERS := .venv-peers
BIN := $(VENV)/bin
SCALE ?= default
REPORTS := reports
MARP := @marp-team/marp-cli@4.5.1
# Workers share the machine; tests that measure, or look at all of the machine, follow alone.
PARALLEL := --numprocesses auto --dist worksteal

.PHONY: help install bench test test-all structure mutants smoke claims limits report executors next-coffea advise history trials signals damage upstream site-budget free-threading publish written slides pictures browser valgrind java xrootd slurm hosts dask-awkward peers peers-report lint format clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable ".[facilities,jax,minuit,parsl,remote,servicex,spark]" --group dev
	touch $@

install: $(VENV)/.ready ## Set up .venv, as all targets do, and no more

bench: $(VENV)/.ready ## Measure everything on events that it generates, in six minutes (SCALE=small|default|full|large)
	$(BIN)/pytest perf --benchmark-only --benchmark-scale $(SCALE)

test: export HYPOTHESIS_PROFILE ?= quick
test: $(VENV)/.ready ## Prove every kernel, and test all else; Parsl and Spark by their own tests
	$(BIN)/pytest $(PARALLEL) -m "not serial and not slow"
	$(BIN)/pytest -m "serial and not slow"

test-all: $(VENV)/.ready ## All tests on every executor, as CI does (half an hour to 45 minutes on two cores)
	$(BIN)/pytest $(PARALLEL) -m "not serial"
	$(BIN)/pytest -m serial

structure: $(VENV)/.ready ## Count modules, imports, circles and lines (REVISION=... beside it)
	$(BIN)/python -m tests.support.structure $(REVISION)

mutants: $(VENV)/.ready ## Which faults the proofs see: a score for each kernel in reports/mutants.txt (half an hour)
	mkdir -p $(REPORTS)
	$(BIN)/python -m tests.campaigns.mutants

smoke: $(VENV)/.ready ## Every benchmark once, on the smallest size
	$(BIN)/pytest perf --benchmark-only --benchmark-scale small

claims: $(VENV)/.ready ## Measure the ratios that are claimed, paired in one run
	$(BIN)/python -m perf claims

limits: $(VENV)/.ready ## The limit of this machine and processors beside it, alone on it (eight minutes), in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m perf limits > $(REPORTS)/limits.txt
	$(BIN)/python -m perf keep
	$(BIN)/python -m perf report

report: SCALE = full
report: bench ## Measure all sizes and settings, keep it, and publish table, picture and claims in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m perf records > $(REPORTS)/benchmarks.txt
	$(BIN)/python -m perf picture $(REPORTS)/kernels.svg
	-$(BIN)/python -m perf claims > $(REPORTS)/claims.txt
	$(BIN)/python -m perf keep
	$(BIN)/python -m perf report

executors: $(VENV)/.ready ## Measure executors alone on the machine (an hour), keep it, and publish it in reports/
	mkdir -p $(REPORTS)
	-$(BIN)/python -m perf claims --only 'executor-*' > $(REPORTS)/executors.txt
	$(BIN)/python -m perf picture $(REPORTS)/executors.svg --of executors
	$(BIN)/python -m perf ablation > $(REPORTS)/ablation.txt
	$(BIN)/python -m analysis make-data .perf/scale --events 2000000 --processes ttbar --variations nominal
	$(BIN)/python -m perf scale .perf/scale/fileset.json --executors iterative,futures,parsl,dask,spark \
		--workers 1,2 --repeat 3 > $(REPORTS)/scale.txt
	$(BIN)/python -m perf scheduler-load > $(REPORTS)/scheduler-load.txt
	$(BIN)/python -m perf keep
	$(BIN)/python -m perf report

next-coffea: $(VENV)/.ready ## Measure coffea's branch compute (of the clone COFFEA_REPO) beside futures, alone on the machine (five minutes)
	mkdir -p $(REPORTS)
	$(BIN)/python -m analysis make-data .perf/next --events 1000000 --processes ttbar --variations nominal
	$(BIN)/python -m perf scale .perf/next/fileset.json --executors iterative,futures,futures:pool=threads,compute --compute compute \
		--workers 2 --chunksizes 50000 --repeat 6 --output .perf/next-coffea.jsonl > $(REPORTS)/next-coffea.txt
	$(BIN)/python -m perf keep
	$(BIN)/python -m perf report

advise: $(VENV)/.ready ## Measure inputs of different shape alone on the machine (a quarter of an hour), for `perf advise`
	mkdir -p $(REPORTS)
	$(BIN)/python -m analysis make-data .perf/scale --events 2000000 --processes ttbar --variations nominal
	$(BIN)/python -m perf scale .perf/scale/fileset.json --executors iterative,futures,parsl,dask,spark --workers 1,2 \
		--shapes 1x250000,4x250000,16x50000,2x1000000,64x50000,8x500000 \
		--chunksizes 60000,125000,250000,500000 --sample 9 --repeat 1 --output .perf/advise.jsonl
	$(BIN)/python -m perf advise --validate > $(REPORTS)/advise.txt

history: $(VENV)/.ready ## Measure coffea's releases alone on the machine (two hours), and keep and publish it
	mkdir -p $(REPORTS)
	$(BIN)/python -m perf history run > $(REPORTS)/history.txt
	$(BIN)/python -m perf history run --pins 2026.9.0 > $(REPORTS)/history-stack.txt
	$(BIN)/python -m perf keep
	$(BIN)/python -m perf report
	$(BIN)/python -m perf history picture $(REPORTS)/history.svg
	$(BIN)/python -m perf publish

trials: $(VENV)/.ready ## How often compare finds 5 and 1 %, beside two busy processes (five hours), in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m perf compare-trials --tools compare,asv > $(REPORTS)/compare-trials.txt
	$(BIN)/python -m perf compare-trials --kinds none >> $(REPORTS)/compare-trials.txt
	$(BIN)/python -m perf compare-trials --kinds one --only trijet_pt-compiled --resolution 0.01 >> $(REPORTS)/compare-trials.txt

signals: $(VENV)/.ready ## Signals at random moments of commands on five executors (half an hour), in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m tests.campaigns.signals > $(REPORTS)/signals.txt

damage: $(VENV)/.ready ## Files that are damaged at random (ten minutes), in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m tests.campaigns.damage > $(REPORTS)/damaged.txt

upstream: $(VENV)/.ready ## What changes of other projects are worth, in reports/upstream/
	$(BIN)/python $(REPORTS)/upstream/measure.py --write
	$(BIN)/python -m perf report

site-budget: $(VENV)/.ready ## How long the site of 1,500 benchmarks takes to build and to show (two minutes), in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m tests.campaigns.site_budget > $(REPORTS)/site-budget.txt

free-threading: $(VENV)/.ready ## Which packages have no wheel for free-threaded CPython, in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m tests.campaigns.free_threading > $(REPORTS)/free-threading.txt

publish: $(VENV)/.ready ## Publish the site of all that was measured in reports/site/
	$(BIN)/python -m perf publish

written: $(VENV)/.ready ## Write the report and its slides again, of what is kept (after every `perf keep`)
	$(BIN)/python -m perf report

slides: ## Make reports/slides.pdf of the slides, with npm's Marp and the Chromium of `make browser`
	@set -e; browser=$$(command -v chromium-headless-shell chromium google-chrome | head -1 || true); \
	if [ -z "$$browser" ]; then echo "skipped: there is no Chromium, make browser installs one"; exit 0; fi; \
	if ! command -v npx >/dev/null; then echo "skipped: there is no npm"; exit 0; fi; \
	cd $(REPORTS) && CHROME_NO_SANDBOX=1 npx --yes $(MARP) slides.md --pdf --allow-local-files --browser-path "$$browser" --output slides.pdf

pictures: publish ## Draw pictures of the site for the README, with the Chromium of `make browser`
	for page in index kernels; do \
		$$(command -v chromium-headless-shell chromium google-chrome | head -1) --headless --no-sandbox \
			--hide-scrollbars --window-size=1100,760 --virtual-time-budget=5000 \
			--screenshot=$(REPORTS)/site-$$page.png file://$(CURDIR)/$(REPORTS)/site/$$page.html; \
	done

browser: ## Install a headless Chromium with Debian's package, where there is none: tests look at pages
	command -v chromium-headless-shell chromium google-chrome >/dev/null || { \
		sudo=$$(command -v sudo || true); \
		$$sudo apt-get update --quiet=2 && \
		$$sudo apt-get install --yes --quiet=2 --no-install-recommends chromium-headless-shell; \
	}

java: ## Install Java for Spark with Debian's package, where there is none
	command -v java >/dev/null || { \
		sudo=$$(command -v sudo || true); \
		$$sudo apt-get update --quiet=2 && \
		$$sudo apt-get install --yes --quiet=2 --no-install-recommends openjdk-17-jre-headless; \
	}

xrootd: ## Install the servers of remote files with Debian's packages, where they are not
	PATH="$$PATH:/usr/sbin"; command -v xrootd >/dev/null && command -v nginx >/dev/null || { \
		sudo=$$(command -v sudo || true); \
		$$sudo apt-get update --quiet=2 && \
		$$sudo apt-get install --yes --quiet=2 --no-install-recommends \
			xrootd-server nginx-light openssl && \
		{ test ! -d /run/systemd/system || $$sudo systemctl disable --now nginx; }; \
	}

slurm: ## Install Slurm with Debian's packages, where it is not: tests run the jobs of docs/facilities.md
	PATH="$$PATH:/usr/sbin"; command -v slurmctld >/dev/null && command -v slurmd >/dev/null || { \
		sudo=$$(command -v sudo || true); \
		$$sudo apt-get update --quiet=2 && \
		$$sudo apt-get install --yes --quiet=2 --no-install-recommends slurmctld slurmd slurm-client munge; \
	}

hosts: ## Install what makes hosts of namespaces with Debian's package, where it is not: tests put engines on hosts
	PATH="$$PATH:/usr/sbin"; command -v ip >/dev/null && command -v tc >/dev/null || { \
		sudo=$$(command -v sudo || true); \
		$$sudo apt-get update --quiet=2 && \
		$$sudo apt-get install --yes --quiet=2 --no-install-recommends iproute2; \
	}

valgrind: ## Install valgrind, which counts instructions, with Debian's package, where there is none
	command -v valgrind >/dev/null || { \
		sudo=$$(command -v sudo || true); \
		$$sudo apt-get update --quiet=2 && \
		$$sudo apt-get install --yes --quiet=2 --no-install-recommends valgrind; \
	}

dask-awkward: $(DASK_AWKWARD)/.ready ## Environment for dask-awkward and FuncADL, which need an older dask

$(DASK_AWKWARD)/.ready: pyproject.toml constraints-dask-awkward.txt
	$(PYTHON) -m venv $(DASK_AWKWARD)
	$(DASK_AWKWARD)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-dask-awkward.txt --editable . "coffea[dask-awkward]" distributed func-adl-uproot
	touch $@

peers: $(PEERS)/.ready ## Environment of the tools that we are compared with: ROOT, DuckDB, Polars

$(PEERS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group peers
	touch $@

peers-report: $(VENV)/.ready $(PEERS)/.ready ## Measure other tools beside this suite, alone on the machine, and publish it in reports/
	mkdir -p $(REPORTS)
	$(BIN)/python -m perf peers > $(REPORTS)/peers.txt
	$(BIN)/python -m perf keep
	$(BIN)/python -m perf report

lint: $(VENV)/.ready ## Style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ruff format --preview --check README.md CONTRIBUTING.md CHANGELOG.md docs/*.md
	$(BIN)/codespell
	$(BIN)/mypy

format: $(VENV)/.ready ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment, caches and made data
	rm -rf $(VENV) $(DASK_AWKWARD) $(PEERS) .perf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
