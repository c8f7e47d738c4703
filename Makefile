# make run      sets itself up, then runs all four stages      CONFIG=config/config.yaml CORES=2
# make phantom  a diffusion series of crossing bundles: NIfTI, bval, bvec
# make paper    the published experiment (experiments/remidi), its table and figures
# make maps     a posterior for every voxel: trained, calibrated, a slice of known truth mapped
# make conditional  images given a signal: calibrated? (experiments/conditional), table and figure
# make synthesis  score models compared (experiments/scores): tables and galleries
# make respiratory  classifiers of lung sounds, by patient: tables and figures (experiments/respiratory)
# make plan     what a run will take on a cluster, from what earlier runs took
# make docs     the documentation as a site (build/site), examples run and drawn;  make photograph: pictures of the demo's page
# make repair   removes what is damaged from the results of CONFIG's run; the next run makes it again
# make test     every test;   make check   what has to pass before a commit
SHELL := bash
.DEFAULT_GOAL := help

# Programs of the environment name its folder in their first line, where a blank ends the name.
ifneq ($(words $(CURDIR)),1)
$(error the folder "$(CURDIR)" has blanks in its name: move the clone to one without)
endif

CONFIG ?= config/config.yaml
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
REPORT ?= report.html
EXTRAS ?= workflow,mesher,dev,docs
PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SNAKEMAKE = $(BIN)/snakemake --workflow-profile profiles/default --configfile $(CONFIG) --cores $(CORES)
# One screen while it runs: src/snakemake_logger_plugin_spinmesh.
RUN = $(SNAKEMAKE) --logger spinmesh

# Programs started by rules are those of the environment; each runs on the threads its rule gives it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A job would compile all that it imports anew, which is half of what a short one takes.
unexport PYTHONDONTWRITEBYTECODE
# In the locale C, Python reads no path with an accent.
export LC_ALL := $(if $(filter C POSIX,$(LC_ALL)),C.UTF-8,$(LC_ALL))

.PHONY: FORCE help setup run free readable paper phantom maps conditional synthesis respiratory unlock repair report docs photograph test test-hpc plan check fuzz faults schema clean

help:
	@echo "make run | paper | phantom | maps | conditional | synthesis | respiratory | unlock | repair | report | docs | plan | test | test-hpc | faults | check | fuzz | schema | setup | clean"
	@echo "  CONFIG=$(CONFIG)  CORES=$(CORES)  REPORT=$(REPORT)"

setup: $(STAMP)

# uv is ten times faster than pip. It reads none of pip's settings, so find-links and the index are
# handed over: a local build of torch must win over the one on PyPI. If uv fails, pip does it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("spinmesh needs Python 3.11 or newer: make PYTHON=python3.11 setup" if sys.version_info < (3, 11) else 0)'
	@echo "installing spinmesh[$(EXTRAS)] into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt uv || true
	@pip_setting() { $(BIN)/python -m pip config list | sed -n "s/^[^=]*\.$$1='\(.*\)'$$/\1/p" \
	    | sed 's/\\n/ /g' | xargs | tr ' ' ','; }; \
	export UV_FIND_LINKS="$${UV_FIND_LINKS:-$$(pip_setting find-links)}"; \
	export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$(pip_setting index-url)}"; \
	test -n "$$UV_FIND_LINKS" || unset UV_FIND_LINKS; \
	test -n "$$UV_DEFAULT_INDEX" || unset UV_DEFAULT_INDEX; \
	uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]' \
	    || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@echo '$(EXTRAS)' > $@

# Extras given on the command line are installed if the environment has others.
ifneq ($(origin EXTRAS),file)
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(EXTRAS))
$(STAMP): FORCE
endif
endif

run: $(STAMP) free readable
	@$(RUN)

# Said before Snakemake says it in its own words.
free:
	@test -z "$$(ls .snakemake/locks 2>/dev/null)" || { echo "another run is at work in this folder, \
	or one was killed here: then  make unlock run"; exit 1; }

# Snakemake's own reader does not come back where aliases repeat mappings within mappings.
readable:
	@$(BIN)/python -c 'import sys; sys.tracebacklimit = 0; from spinmesh.settings import load_config; \
	    load_config(sys.argv[1])' $(CONFIG)

phantom: $(STAMP) readable
	@$(RUN) phantom

paper: CONFIG = experiments/remidi/config.yaml
paper: $(STAMP)
	@$(RUN) --snakefile experiments/remidi/Snakefile
	@$(BIN)/python -c 'import sys, pandas as pd; print(pd.read_csv(sys.argv[1]).round(3).to_string(index=False))' \
	    "$$(ls -t results/*/paper/table.csv | head -n 1)"

maps: CONFIG = config/maps.yaml
maps: $(STAMP)
	@$(RUN) --snakefile workflow/maps/Snakefile

conditional: CONFIG = experiments/conditional/config.yaml
conditional: $(STAMP)
	@$(RUN) --snakefile experiments/conditional/Snakefile

synthesis: CONFIG = experiments/scores/config.yaml
synthesis: $(STAMP)
	@$(RUN) --snakefile experiments/scores/Snakefile

respiratory: CONFIG = experiments/respiratory/config.yaml
respiratory: $(STAMP)
	@$(RUN) --snakefile experiments/respiratory/Snakefile
	@$(BIN)/python -c 'import sys, pandas as pd; print(pd.read_csv(sys.argv[1]).round(3).to_string(index=False))' \
	    "$$(ls -t results/*/table.csv | head -n 1)"

# A killed run leaves its lock behind. Only when no other run is at work in this folder.
unlock: $(STAMP)
	@$(SNAKEMAKE) --unlock

# Every file of every store of the run is compared with the digest that it was written with.
repair: $(STAMP) free
	@$(BIN)/spinmesh repair results/$(or $(shell sed -n 's/^run: *\([A-Za-z0-9._-]*\).*/\1/p' $(CONFIG)),demo)

report: $(STAMP) readable
	@$(RUN)
	@$(SNAKEMAKE) --report $(REPORT)

# Each example is run when it has changed; its figure and last words stand in the gallery.
build/examples/%.txt: examples/%.py $(STAMP)
	@mkdir -p $(@D)
	MPLBACKEND=agg $(BIN)/python $< $(@D) > $@.partial && mv $@.partial $@

docs: $(patsubst examples/%.py,build/examples/%.txt,$(wildcard examples/*.py))
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server --directory build/site"

# Of a run of the demo (make run); needs Chromium.
photograph: $(STAMP)
	@$(BIN)/python docs/photograph.py results/demo

test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(CORES) --dist loadgroup --no-loadscope-reorder

# What a run will take: make plan CONFIG=my.yaml RECORDED="results/small results/larger" NODES=100
RECORDED ?= $(patsubst %/times,%,$(wildcard results/*/times))
NODES ?= 1
plan: $(STAMP) readable
	@$(SNAKEMAKE) --dag --forceall 2>/dev/null | $(BIN)/spinmesh plan $(CONFIG) $(RECORDED) --nodes $(NODES)

# A private Slurm of two nodes on this machine, one of which is lost on the way; 5 minutes.
test-hpc: $(STAMP)
	@SPINMESH_HPC=1 OMP_NUM_THREADS=1 $(BIN)/pytest -rs -s tests/hpc

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow experiments
	$(BIN)/snakemake --lint --configfile $(CONFIG)
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(CORES) --dist loadgroup --no-loadscope-reorder -m "not slow and not gpu"

fuzz: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/inputs/fuzz.py docs/results/inputs_fuzz.md
	@OMP_NUM_THREADS=1 $(BIN)/python tests/inputs/broken_tissue.py

# One fault at a time, each compared with an undisturbed run; as root, to fill a disk of its own.
# 25 CPU minutes; some of them alone: make faults CASES="disk-full kill-mesh-3"
faults: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.workflow.faults docs/results/faults.md $(CASES)

schema: $(STAMP)
	$(BIN)/python docs/make_configuration.py

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests experiments -name __pycache__ -type d -prune -exec rm -rf {} +
