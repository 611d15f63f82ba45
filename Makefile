# One command a verb; `make help` prints them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help python setup setup-core test chaos kills fuzz memory soak lint format reference demo up down status lock

# Names lie (a pyenv shim may exist for a version that does not): a Python is what answers.
RIGHT := import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3 python,$(shell $(name) -c '$(RIGHT)' 2>/dev/null && echo $(name))))
BIN := .venv/bin
KIND := $(if $(CORE),core,all)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1   \2/p' $(MAKEFILE_LIST)

python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed, and none is on PATH: install one, or name it with PYTHON=/path/to/python3.11." >&2; exit 1; }

setup: python ## environment, jars and tools; CORE=1: the command line without JVM and torch
	@$(PYTHON) deploy/setup.py $(KIND)

setup-core: python ## the core and the command line only
	@$(PYTHON) deploy/setup.py core

test: setup lint ## set-up, lint and every test, the real stack included
	@$(BIN)/python -m pytest -n 2 --no-loadscope-reorder --durations=30

KILLS ?= 50
LINES ?= 1000000
SEED ?= 1
RECORDS ?= 10000
chaos: kills fuzz memory ## the long forms: kills, fuzzed lines, what would not fit into memory; an hour

kills: setup ## kill -9 of every part at random moments; KILLS=50 LINES=1000000 SEED=1
	@$(BIN)/python -m tests.chaos.kills --kills $(KILLS) --lines $(LINES) --seed $(SEED)

fuzz: setup ## lines of every bad kind: none lost, nothing raised; LINES=1000000 SEED=1
	@$(BIN)/python -m tests.chaos.fuzz --lines $(LINES) --seed $(SEED)

memory: setup ## huge lines, countless sessions and templates: bounded; RECORDS=10000 of 1 MB
	@$(BIN)/python -m tests.chaos.memory --records $(RECORDS)

MINUTES ?= 60
RATE ?= 25000
soak: setup ## a steady stream: memory and latency must not grow; MINUTES=60 RATE=25000
	@$(BIN)/python -m tests.chaos.soak --minutes $(MINUTES) --rate $(RATE)

# The long forms run for an hour before they would meet a mistake.
LONG := checks expected fuzz kills memory orders soak strikes tables traffic
lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases $(LONG:%=-m tests.chaos.%)

format: setup ## rewrite the code in the common form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: setup ## write docs/reference anew from the code
	@$(BIN)/python -m docs.reference

demo: setup ## real logs of HDFS and Kafka, a trained model, real damage, the alert; DEMO_EXIT=1 ends after it
	@$(BIN)/logcanary demo

up: setup ## start the local stack
	@$(BIN)/logcanary up

down: setup ## stop it; the data stay
	@$(BIN)/logcanary down

status: setup ## what runs, where
	@$(BIN)/logcanary status

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--override locks/overrides.txt $(if $(UPGRADE),--upgrade) pyproject.toml locks/build.in
lock: setup ## write the locks anew; UPGRADE=1 takes the newest versions
	$(COMPILE) --extra stream --extra train --extra dev -o locks/all.txt
	$(COMPILE) -c locks/all.txt --extra stream -o locks/stream.txt
	$(COMPILE) -c locks/all.txt -o locks/core.txt
	$(BIN)/python -m deploy.jars lock
