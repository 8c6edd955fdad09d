# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
# `make test` and `make demo` set up what they need, in .venv, with Python 3.10 or newer.
# `make matrix` does so in .venv-3.10, .venv-3.11 and so on, for each Python that pyproject.toml
# promises.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
WORKERS ?= 4
TESTS ?= tests

# ALL=1: also what only a release needs (each way to install, each program started afresh).
ALL ?=
# Marks of pytest whose tests are left out, such as `repository`.
WITHOUT ?=
LEFT_OUT = $(patsubst %,and not %,$(if $(ALL),,release) $(WITHOUT))

# The environment, and what is installed there besides the wheel.
VENV ?= .venv
EXTRAS ?= test,dev
# What pip installs besides, in the same go.
WITH ?=
# Where tomorrow's Custodian is.
CUSTODIAN ?= git+https://github.com/cloud-custodian/cloud-custodian@main
PROMISED := $(shell sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The folders as well as the files: a folder's time tells that a file was removed from it.
PACKAGED := $(shell find c7n_keyrot policies examples deploy -not -name '__pycache__' \
	-not -name '*.pyc' 2>/dev/null) $(wildcard c7n_keyrot.pth c7n_keyrot.start setup.py setup.cfg \
	pyproject.toml MANIFEST.in LICENSE README.md)

.PHONY: help
help:
	@echo 'make demo    the pack at work on an embedded AWS: before, run, after'
	@echo 'make test    the tests (TESTS=tests/unit for some of them, WORKERS=0 for one process;'
	@echo '             ALL=1 for those of the ways to install, too, as .ci/run and the workflow do)'
	@echo 'make matrix  the same on each Python that is promised and found (make matrix-3.10: on one;'
	@echo '             WITHOUT=repository leaves out the tests that only read files of the repository)'
	@echo "make custodian-main  unit tests and the pack's own run with Custodian's main branch"
	@echo 'make unit    the unit tests in TESTS, of the code as it is here, within seconds'
	@echo 'make coverage  what the unit tests cover, branches too; it fails below the floor'
	@echo "make second-aws  the pack against MiniStack, an AWS that isn't ours (a minute)"
	@echo "make clock   tests at another time: make clock AT='2026-12-31 23:58' TESTS=tests/unit"
	@echo 'make any-day tests on each weekday, and on the dates that are hard'
	@echo 'make lint    ruff, mypy, and zizmor for the workflows'
	@echo 'make format  format in place'
	@echo 'make pictures  the pictures in README, out of the demo (needs Chromium)'
	@echo 'make wheel   the wheel, in dist/'
	@echo 'make bench   the benchmarks, into benchmarks/RESULTS.md (half an hour)'
	@echo 'make soak    the model-based tests, 100,000 cases of each (an hour)'
	@echo 'make mutation  the mutation check of what decides which key is selected'
	@echo 'make mutants  mutants made by hand, of the guards that must never go (a few minutes)'
	@echo 'make audit   scanners: bandit, GuardDog, autorun-audit, pydepgate, pip-audit'
	@echo 'make evidence-check  py-ocsf-models and compliance-trestle read the report (a minute)'
	@echo 'make dist    sdist and wheel, the same for the same commit'
	@echo 'make release-check  may this commit become a release?'
	@echo 'make clean   removes what these made'

# Images of Python set that variable: each worker, in each run, would compile all the tests anew.
.PHONY: test
test: $(VENV)/installed
	@echo '== Testing the installed wheel'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n $(WORKERS) $(if $(strip $(LEFT_OUT)),-m '$(wordlist 2,99,$(LEFT_OUT))') $(TESTS)

# With the folder here in front of the installed wheel: no wheel is built, so it takes seconds.
.PHONY: unit
unit:
	@test '$(TESTS)' != tests || { echo 'Name the tests: make unit TESTS=tests/unit/filters_test.py' >&2; exit 2; }
	@test -x $(BIN)/pytest || $(MAKE) --no-print-directory $(VENV)/tools
	PYTHONPATH="$$PWD" $(BIN)/pytest -q $(TESTS)

# In one process, and by pytest's own script: `-m pytest` would test the folder here.
.PHONY: coverage
coverage: $(VENV)/installed
	@echo '== Measuring what the unit tests cover, branches too (some six minutes)'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/coverage run $(BIN)/pytest -q tests/unit
	$(BIN)/coverage report

# In an environment of its own: what it brings along must not be what the pack is tested with.
.PHONY: second-aws
second-aws: $(VENV)/installed
	@echo "== Testing against MiniStack, an AWS that isn't ours"
	@if $(MAKE) --no-print-directory .venv-second/made; then \
		SECOND_AWS=.venv-second/bin/ministack $(BIN)/pytest tests/second_aws; \
	else \
		echo 'MiniStack (.ci/second-aws.txt) could not be installed here: NOT TESTED against a second AWS'; \
	fi

.venv-second/made: .ci/second-aws.txt
	@echo '== Installing MiniStack in .venv-second'
	rm -rf .venv-second
	$(PYTHON) -m venv .venv-second
	.venv-second/bin/python -m pip install --quiet --disable-pip-version-check -r .ci/second-aws.txt
	@touch $@

# AT is a minute in UTC. Nothing but these tests and what they start has that clock.
.PHONY: clock
clock: $(VENV)/installed
	@test -n '$(AT)' || { echo "Say when, in UTC: make clock AT='2026-12-31 23:58'" >&2; exit 2; }
	tests/clock/at.sh '$(AT)' $(BIN)/pytest -n $(WORKERS) $(TESTS)

# Noon on the next seven days, then ends of months and of the year, and a run over midnight.
.PHONY: any-day
any-day: $(VENV)/installed
	for day in 0 1 2 3 4 5 6; do date -u -d "$$day days" '+%F 12:00'; done | \
	cat - <(printf '%s\n' '2027-02-28 12:00' '2028-02-29 12:00' '2026-12-31 23:58' '2027-01-01 00:00') | \
	while read -r at; do \
		echo "== At $$at UTC"; \
		tests/clock/at.sh "$$at" $(BIN)/pytest -n $(WORKERS) $(TESTS) < /dev/null; \
	done

# One after the other, without those in EXCEPT; `make -k matrix` goes on after a failure.
.PHONY: matrix
matrix: $(addprefix matrix-,$(filter-out $(EXCEPT),$(PROMISED)))

matrix-3.%: dist/built
	@if python=$$($(PYTHON) tests/end_to_end/pythons.py 3.$*); then \
		echo "== Python 3.$*: $$python"; \
		$(MAKE) --no-print-directory test VENV=.venv-3.$* EXTRAS=test PYTHON="$$python"; \
	else \
		echo '== Python 3.$* is not on this machine (PATH, pyenv): NOT TESTED'; \
	fi

# Afresh each time, since that branch moves.
.PHONY: custodian-main
custodian-main: dist/built
	@echo "== Testing with Custodian's main branch: $(CUSTODIAN)"
	rm -rf .venv-main
	$(MAKE) --no-print-directory test VENV=.venv-main EXTRAS=test WITHOUT=repository \
		TESTS='tests/unit tests/end_to_end/pack_test.py' WITH='"c7n @ $(CUSTODIAN)" \
		"c7n-org @ $(CUSTODIAN)#subdirectory=tools/c7n_org" \
		"c7n-mailer @ $(CUSTODIAN)#subdirectory=tools/c7n_mailer"'

# Where the tests' environment is, it has all that the demo needs.
.PHONY: demo
demo: $(if $(wildcard $(VENV)/tools),$(VENV)/installed,$(VENV)/demo)
	@$(BIN)/python demo/run.py

.PHONY: pictures
pictures: $(VENV)/installed
	@echo '== Running the demo and taking its pictures, into docs/pictures/'
	$(BIN)/python demo/pictures.py

.PHONY: lint
lint: $(VENV)/tools
	@echo '== Checking style and types'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict c7n_keyrot
	$(BIN)/zizmor --offline --no-progress --quiet .github

.PHONY: format
format: $(VENV)/tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: wheel
wheel: dist/built

# Of the commit's time, so that the same commit makes the same files.
.PHONY: dist
dist: .venv-release/made
	@echo '== Building sdist and wheel'
	rm -rf build dist *.egg-info
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .venv-release/bin/python -m build
	sha256sum dist/*

.PHONY: release-check
release-check: dist
	@echo '== May this commit become a release?'
	.venv-release/bin/python tests/release/release_check.py dist

.venv-release/made:
	@echo '== Installing what builds and checks a release in .venv-release'
	rm -rf .venv-release
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --disable-pip-version-check \
		build twine 'readme-renderer[md]'
	@touch $@

.PHONY: bench
bench: $(VENV)/installed
	@echo '== Measuring (half an hour; on an idle machine only)'
	$(BIN)/python benchmarks/run.py

.PHONY: soak
soak: $(VENV)/installed
	@echo '== 100,000 random events and runs, and as many random weeks (an hour)'
	KEYROT_SOAK=100000 KEYROT_WEEKS=100000 $(BIN)/pytest -n auto --dist worksteal tests/soak

.PHONY: mutation
mutation: $(VENV)/installed
	@echo '== Changing the code that decides, a bit at a time: do the tests notice? (long)'
	tests/mutation/run.sh

.PHONY: mutants
mutants: $(VENV)/installed
	@echo '== Taking one guard after the other away: do the nearest tests notice?'
	$(BIN)/python tests/mutation/by_hand.py

.PHONY: audit
audit: $(VENV)/installed .venv-audit/made
	@echo '== What scanners say of the wheel, and of what it needs'
	$(BIN)/python tests/audit/run.py dist/*.whl .venv-audit/bin \
		"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

# compliance-trestle's line 3 is the one for OSCAL 1.1.3.
EVIDENCE_READERS := py-ocsf-models compliance-trestle

.PHONY: evidence-check
evidence-check: $(VENV)/installed .venv-evidence/made
	@echo '== Do the programs of others read what `report` writes?'
	$(BIN)/python tests/evidence_check/run.py .venv-evidence

# Each in an environment of its own; one that can't be installed is named by the run.
.venv-evidence/made:
	@echo '== Installing them in .venv-evidence (a minute)'
	rm -rf .venv-evidence
	mkdir .venv-evidence
	for reader in $(EVIDENCE_READERS); do \
		line=$$reader; if [ $$reader = compliance-trestle ]; then line="$$reader<4"; fi; \
		$(PYTHON) -m venv .venv-evidence/$$reader && \
		.venv-evidence/$$reader/bin/python -m pip install --quiet --disable-pip-version-check "$$line" && \
		touch .venv-evidence/$$reader/installed || true; \
	done
	@touch $@

# Each by itself: one that can't be installed is named by the run, and stops nothing.
.venv-audit/made:
	@echo '== Installing the scanners in .venv-audit (a minute)'
	rm -rf .venv-audit
	$(PYTHON) -m venv .venv-audit
	for tool in bandit pip-audit guarddog autorun-audit pydepgate; do \
		.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check $$tool || true; \
	done
	@touch $@

.PHONY: clean
clean:
	rm -rf .venv .venv-* build dist demo-output *.egg-info .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .coverage

# That of Python 3.10 needs many minutes to find versions that fit each other.
$(VENV)/made:
	@echo '== Making a clean environment in $(VENV)'
	rm -rf $(VENV)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip || echo 'pip stays as it is; it may take long to choose versions'
	@touch $@

dist/built: $(PACKAGED) | $(VENV)/made
	@echo '== Building the wheel'
	rm -rf build dist
	$(PIP) wheel --no-deps --wheel-dir dist .
	@touch $@

# What the tests need, and with it the wheel itself. Only again when the metadata changed. Most
# of these files are never imported: those that are get compiled then.
$(VENV)/tools: setup.cfg pyproject.toml .ci/tools.txt | $(VENV)/made dist/built
	@echo '== Installing the wheel with everything the tests need (a minute or two)'
	$(PIP) install --no-compile --progress-bar off -c .ci/tools.txt \
		"$$(echo dist/*.whl)[$(EXTRAS)]" $(WITH)
	@touch $@

# What the demo needs, and no more. pip takes a wheel of the same version for the same.
$(VENV)/demo: dist/built | $(VENV)/made
	@echo '== Installing the wheel with everything the demo needs (a minute)'
	$(PIP) install --quiet --no-compile "$$(echo dist/*.whl)[demo]"
	$(PIP) install --quiet --no-deps --force-reinstall dist/*.whl
	@touch $@

# The wheel, never the folder here: only an installed wheel has the startup file.
$(VENV)/installed: dist/built $(VENV)/tools
	@echo '== Installing the wheel'
	$(PIP) install --no-deps --force-reinstall dist/*.whl
	@touch $@
