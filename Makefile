# Thin: each target is one line; what it does is in tests/harness/. `make` alone prints this list.
SHELL := /bin/bash
.DEFAULT_GOAL := help
HARNESS := tests/harness
RUN := $(HARNESS)/run

.PHONY: help setup engine images lint unit integration test molecule site-test demo demo-down restore-test bench shell clean lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "ANSIBLE_CORE=2.19|2.20|2.21 chooses the ansible-core line; SCENARIO=NAME one molecule scenario."
	@echo "Everything is kept in DEPLOYMENT_MONITORING_CACHE (~/.cache/deployment-monitoring)."

demo: images ## a running stack to explore, on loopback, with a simulated platform behind it
	@$(RUN) $(HARNESS)/demo.sh up

demo-down: ## removes the demo
	@$(HARNESS)/demo.sh down

test: ## every check there is
	@$(HARNESS)/check.sh all

lint: setup ## the linters
	@$(HARNESS)/check.sh lint

unit: setup ## the unit tests
	@$(HARNESS)/check.sh unit

integration: setup engine ## the mechanism, against a real engine
	@$(HARNESS)/check.sh integration

molecule: images ## the scenarios on real targets; SCENARIO=NAME: that one, shown as it runs
	@$(if $(SCENARIO),$(RUN) molecule test -s $(SCENARIO),$(HARNESS)/check.sh molecule)

site-test: images ## the whole site on one target
	@$(RUN) molecule test -s default

restore-test: images ## a stack backed up, wiped, restored on it and on another server: the comparison
	@$(RUN) molecule test -s backup
	@$(RUN) python tests/benchmarks/restore.py

bench: images ## the benchmarks of docs/performance.md; BENCH="--hosts 1" only some (--help tells)
	@$(RUN) python tests/benchmarks/run.py $(BENCH)

images: setup engine ## the test images, those that are missing
	@$(RUN) python tests/images/build.py build

setup: ## the tools: a Python environment and the collections
	@$(HARNESS)/setup.sh

engine: ## a Docker engine, where none answers
	@$(HARNESS)/engine.sh

shell: setup ## a shell with the tools on its path
	@$(RUN) bash

clean: ## removes what interrupted tests of this checkout left (targets, logs); the cache stays
	@$(HARNESS)/clean.sh

lock: setup ## pins tests/requirements anew
	@$(RUN) $(HARNESS)/lock.sh
