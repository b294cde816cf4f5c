# Aqueduct: every target sets up what it needs (a virtual environment, packages, a real Asterisk) and can be run alone.

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
PARALLEL := $(if $(filter 0,$(shell id -u)),-n auto)
ASTERISK := .cache/asterisk-root
PACKAGES := tests/testbed/setup/packages.sh

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help docs demo demo-asterisk test test-unit test-sim test-sipp test-integration test-plain lint bench soak compile plain
.PHONY: clean sipp asterisk rtpengine tshark pjsua2 dbus

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 20

demo: compile ## two backends carry calls, one is killed, the calls go on
	@.venv/bin/aqueduct demo

demo-asterisk: compile asterisk ## the same with two real Asterisk
	@.venv/bin/aqueduct demo --asterisk

test: lint compile test-unit test-sim test-sipp test-integration test-plain ## everything below

test-unit: .venv/ready ## protocol machines and pure functions (seconds)
	@$(PYTEST) $(PARALLEL) tests/unit tests/fuzz

test-sim: .venv/ready ## the node in virtual time, with faults
	@$(PYTEST) $(PARALLEL) tests/sim

test-sipp: compile sipp ## every call flow against SIPp
	@$(PYTEST) $(PARALLEL) tests/sipp

test-integration: compile sipp asterisk rtpengine tshark pjsua2 dbus ## against real Asterisk and rtpengine, with PJSIP's phones
	@$(PYTEST) tests/integration

test-plain: .venv/ready ## the same source not compiled: a copy without the compiled modules
	@rm -rf build/plain && mkdir -p build/plain
	@cp -r --preserve=timestamps pyproject.toml proxy media tests docs build/plain
	@find build/plain -name '*.so' -delete
	@cd build/plain && ../../$(PYTEST) $(PARALLEL) tests/unit/sip tests/unit/calls tests/unit/failover tests/fuzz
	@cd build/plain && ../../$(PYTEST) $(PARALLEL) tests/sim -m plain

lint: .venv/ready ## style, types and the layering of the packages
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

docs: .venv/ready ## the configuration reference, out of the settings
	@$(PYTHON) -m proxy.config.reference >docs/configuration.md

bench: compile .venv/ready-bench sipp asterisk rtpengine ## figures as JSON, peers measured in the same run
	@$(PACKAGES) kamailio=kamailio
	@for each in calls relay detection failover reanchor memory situations; do $(PYTHON) -m bench.$$each || exit; done

soak: compile ## the simulation with thousands of seeds
	@$(PYTHON) -m tests.sim.soak

compile: .venv/compiled ## with mypyc, what every SIP message goes through

plain: ## undo that: what is edited runs as it is
	@rm -f .venv/compiled proxy/*.so proxy/*/*.so

clean: ## remove everything that was made here
	rm -rf proxy/*.so proxy/*/*.so .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# --- set-up: nothing is done twice

.venv/ready: pyproject.toml tests/testbed/setup/venv.sh
	@tests/testbed/setup/venv.sh dev,uvloop
	@touch $@

.venv/compiled: .venv/ready setup.py tests/testbed/setup/compile.sh $(wildcard proxy/sip/*.py proxy/calls/*.py proxy/net/*.py)
	@tests/testbed/setup/compile.sh
	@touch $@

.venv/ready-bench: .venv/ready
	@tests/testbed/setup/venv.sh dev,uvloop,bench
	@touch $@

sipp:
	@$(PACKAGES) sipp=sip-tester ip=iproute2 nft=nftables setpriv=util-linux

rtpengine:
	@$(PACKAGES) rtpengine=rtpengine-daemon

dbus:
	@$(PACKAGES) dbus-daemon=dbus-daemon

tshark:
	@$(PACKAGES) tshark=tshark

asterisk: ## a real Asterisk, unpacked in .cache/
	@tests/testbed/asterisk/asterisk-root.sh $(ASTERISK)

pjsua2: .venv/ready
	@tests/testbed/build-pjsua2.sh $(PYTHON)
