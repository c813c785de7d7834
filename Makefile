# The lab's commands. `make help` lists them; CI and people call the same ones.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PYTHON ?= python3
SPEC ?= morocco-2016
# A folder of captures that you have already (files are recognised by their sha256).
CORPUS ?=
RUN_FLAGS := $(if $(CORPUS),--corpus $(CORPUS))
# Packages come as locks/ names them, versions and sha256; LOCKED=no takes what pyproject.toml allows.
LOCKED ?= yes
LOCKS ?= locks
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
packages = $(if $(filter no,$(LOCKED)),-e '.[$(1)]',--require-hashes -r $(LOCKS)/core.lock -r $(LOCKS)/$(1).lock)

.PHONY: help setup experiment experiment-live plan docker-image docker-experiment evaluate test test-slow test-all lint types contracts check corpus add golden reference bench bench-compare bench-growth bench-live docs doctor clean fuzz determinism instructions hostile faults differential mutants audit lock fuzz-readers budget sharing

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make the environment in .venv (needs the Python package index once)

$(VENV)/packages: $(LOCKS)/core.lock $(LOCKS)/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is missing: install it (Debian, Ubuntu: apt install python3), or say make PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv module is missing: install it (Debian, Ubuntu: apt install python3-venv)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV): downloads about 350 MB once"
	@$(INSTALL) $(call packages,dev) || { \
	  echo "set-up failed. If pip says that hashes do not match: what was downloaded is not what was locked, do not use it."; \
	  echo "If a package does not fit this Python or machine: make setup LOCKED=no takes the newest ones that do, unchecked."; \
	  echo "If the Python package index could not be reached: run make setup again."; exit 2; }
	@touch $@

$(READY): pyproject.toml $(VENV)/packages
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/midcall warm-up
	@touch $@

experiment: $(READY)  ## run the default experiment and write its report
	@$(BIN)/midcall run $(SPEC) $(RUN_FLAGS)

plan: $(READY)  ## the budget of an experiment before it runs: make plan SPEC=live-morocco
	@$(BIN)/midcall plan $(SPEC) $(RUN_FLAGS)

# The live bench is run once (bench-live measures again); the report joins its newest result.
experiment-live: SPEC = live-morocco
experiment-live: $(VENV)/live  ## the experiment on an emulated network, with latency and throughput (root: sudo make experiment-live)
	@$(BIN)/midcall plan $(SPEC) --backend live $(RUN_FLAGS)
	@test -f runs/bench-live/latest.json || $(BIN)/midcall bench live $(BENCH_FLAGS)
	@$(BIN)/midcall run $(SPEC) --backend live $(RUN_FLAGS)

# The image sees captures of yours read-only (CORPUS) or fetches its own, without privileges, into a
# volume; the experiment itself then runs without any network. docs/howto/docker.md says why each is there.
DOCKER ?= docker
DOCKER_BUILD_FLAGS ?=
DOCKER_COMMAND ?= midcall run $(SPEC)
DOCKER_PRIVILEGES ?= --cap-drop ALL --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add NET_RAW \
  --cap-add SYS_NICE --cap-add CHOWN --cap-add DAC_OVERRIDE \
  --security-opt systempaths=unconfined --security-opt apparmor=unconfined
DOCKER_CACHE := -v midcall-cache:/var/cache/midcall

docker-image:  ## build the Docker image (once; again only what changed)
	@command -v $(DOCKER) >/dev/null || { echo "$(DOCKER) is missing: install Docker (Debian, Ubuntu: apt install docker.io)"; exit 2; }
	@$(DOCKER) version >/dev/null 2>&1 || { echo "no Docker engine answers: start it, or say sudo make"; exit 2; }
	$(DOCKER) build $(DOCKER_BUILD_FLAGS) -t midcall -f testbed/docker/Dockerfile .

docker-experiment: docker-image  ## run the experiment in a container; results in runs/ are yours
	@mkdir -p runs
ifeq ($(CORPUS),)
	@$(DOCKER) run --rm $(DOCKER_CACHE) midcall midcall captures fetch || true
endif
	@$(DOCKER) run --rm --network none --tmpfs /run $(DOCKER_PRIVILEGES) $(DOCKER_CACHE) \
	  $(if $(CORPUS),-v "$(abspath $(CORPUS)):/corpus:ro" -e MIDCALL_CORPUS=/corpus) \
	  -v "$(CURDIR)/runs:/midcall/runs" -e MIDCALL_OWNER="$$(id -u):$$(id -g)" \
	  midcall $(DOCKER_COMMAND)

evaluate: $(READY)  ## accuracy under disturbances, compared with baselines and every peer that is installed
	@$(BIN)/midcall evaluate $(SPEC) $(RUN_FLAGS)

add: $(READY)  ## add a capture: make add PCAP=mycall.pcap APP=whatsapp KIND=audio
	@test -n "$(PCAP)" -a -n "$(APP)" -a -n "$(KIND)" || { \
	  echo "say which capture: make add PCAP=mycall.pcap APP=whatsapp KIND=audio"; exit 2; }
	@$(BIN)/midcall captures add "$(PCAP)" --app "$(APP)" --kind "$(KIND)" $(ADD_FLAGS)

test: $(READY)  ## run the quick tests
	@$(BIN)/python -m pytest -q -n auto -m "not slow"

SLOW = slow
test-slow: $(READY)  ## run the tests that `make test` leaves out
	@$(BIN)/python -m pytest -q -n auto -m "$(SLOW)"

test-all: test test-slow  ## run all tests

lint: $(READY)  ## style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY)  ## types, strictly
	@$(BIN)/mypy

contracts: $(READY)  ## who may import whom
	@$(BIN)/lint-imports

check: lint types contracts test-all  ## all of it: what must be green before a commit lands

corpus: $(READY)  ## obtain the catalogued captures and say what is missing, and why
	@$(BIN)/midcall captures fetch $(RUN_FLAGS)

golden: $(READY)  ## write the golden texts again (read the diff before you commit it)
	@$(BIN)/python -m tests.golden

reference: $(READY)  ## write docs/reference/policy.md and data.md from the code that they describe
	@$(BIN)/python -m midcall.experiments.tools.policy_reference
	@$(BIN)/python -m midcall.experiments.tools.data_reference

bench: $(READY)  ## packets per second of the offline path, compared with ndpiReader and nfstream; BENCH_FLAGS="--loads all --peers all" for everything
	@$(BIN)/python -m tests.bench $(BENCH_FLAGS)

bench-compare: $(READY)  ## the same as ratios to an earlier result: make bench-compare BASE=bench.json
	@test -n "$(BASE)" || { echo "say which earlier result: make bench-compare BASE=bench.json"; exit 2; }
	@$(BIN)/python -m tests.bench --against $(BASE) --json bench-now.json $(BENCH_FLAGS)

$(VENV)/live: $(READY)
	@$(INSTALL) $(call packages,live) || { \
	  echo "Mininet's Python package could not be installed; run the same command again"; exit 2; }
	@touch $@

bench-growth: $(READY)  ## cost and memory up to 100 million packets: bench-growth.json and .svg
	@$(BIN)/python -m tests.bench --growth 100000000 --json bench-growth.json $(BENCH_FLAGS)

bench-live: $(VENV)/live  ## the live box compared with the kernel alone: rates, latency, exactness (root: sudo make bench-live)
	@$(BIN)/midcall bench live $(BENCH_FLAGS)

# What tries to break the lab (docs/explanation/reliability.md); results go to runs/reliability and runs/fuzz.
fuzz: $(READY)  ## mutated captures through readers, path and boxes: make fuzz PACKETS=10000000 SEED=2
	@$(BIN)/midcall fuzz --packets $(or $(PACKETS),1000000) --seed $(or $(SEED),1) $(RUN_FLAGS)

fuzz-readers: $(READY)  ## every reader in plain Python, guided by coverage: make fuzz-readers SECONDS=600
	@$(INSTALL) $(call packages,fuzz) || true
	@$(BIN)/python -m tests.fuzz -max_total_time=$(or $(SECONDS),60) -max_len=600

determinism: $(READY)  ## one process of a generic processor against all cores: make determinism [AGAINST=runs/latest]
	@$(BIN)/python -m tests.proofs.determinism --spec $(SPEC) $(if $(AGAINST),--against $(AGAINST))

hostile: $(READY)  ## attacks through one engine: bounds of state, counts, time per packet
	@$(BIN)/python -m tests.proofs.hostile $(HOSTILE_FLAGS)

faults: $(READY)  ## runs and workers killed at random moments: make faults KILLS=100
	@$(BIN)/python -m tests.proofs.faults --kills $(or $(KILLS),100)

budget: $(READY)  ## seconds by phase and peak memory of the default experiment, in a new run
	@$(BIN)/python -m tests.proofs.budget --spec $(SPEC)

differential: $(READY)  ## fields of STUN, RTP, RTCP, TLS, DTLS, QUIC compared with those that tshark reads
	@$(BIN)/python -m tests.proofs.differential

sharing: $(READY)  ## what packing changes for Midcall, nDPI and tshark: make sharing [NAMES="a b"]
	@$(BIN)/python -m tests.proofs.sharing $(NAMES)

mutants: $(READY)  ## changed copies of metrics, statistics, policy and rules, which tests must notice (about an hour)
	@$(INSTALL) $(call packages,mutants)
	@$(BIN)/python -m tests.proofs.mutants $(MODULES)

# The index that pip is set up with tells the sums; extras hold what setup does not install.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -c constraints.txt
EXTRAS := dev live callers bystanders dask docs peers mutants audit fuzz lock
lock: $(READY)  ## write locks/ again from constraints.txt: versions and sha256 of every package, for any platform
	@$(INSTALL) $(call packages,lock)
	@echo 'setuptools' | $(LOCK) pyproject.toml - -o locks/core.lock
	@for extra in $(EXTRAS); do \
	  known=$$(cat locks/core.lock $$(test $$extra = dev || echo locks/dev.lock) | sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p'); \
	  $(LOCK) pyproject.toml --extra $$extra $$known -o locks/$$extra.lock || exit 2; \
	done

audit: $(READY)  ## known vulnerabilities of the locked packages (asks a service on the network)
	@$(INSTALL) $(call packages,audit)
	@$(BIN)/python -m pip_audit --strict --disable-pip $(foreach lock,$(wildcard $(LOCKS)/*.lock),-r $(lock))

instructions: $(READY)  ## instructions per packet under valgrind, against the committed count
	@$(BIN)/python -m tests.proofs.instructions

$(VENV)/docs: $(READY)
	@$(INSTALL) $(call packages,docs)
	@touch $@

docs: $(VENV)/docs  ## the documentation as a site, in docs/_build/html
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html && echo docs/_build/html/index.html

doctor: $(READY)  ## what is here, what is missing and how to get it
	@$(BIN)/midcall doctor

clean:  ## remove the environment, caches and runs (captures that you added stay)
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
