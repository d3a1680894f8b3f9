# The front door. `make help` lists the targets.
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x64,$(shell uname -m)))
# Node 26, from a package of this project; the Node on the PATH only starts npm.
NODE := node_modules/node-linux-$(ARCH)/bin/node --no-warnings
# The versions of the lockfile, which is left as it is. Not `npm ci`: it refuses a lockfile without the optional packages
# of other platforms, and registries that mirror only some platforms make such lockfiles. No script of a package is run.
NPM_INSTALL := npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error

PREFIX ?= /usr/local
DESTDIR ?=

PACKAGES := node_modules/.package-lock.json
FIXTURE_PACKAGES := fixtures/node_modules/.package-lock.json
BUNDLE := dist/.bundled
BUNDLE_INPUTS := $(shell find src proto -name '*.test.ts' -o -type f -print) bin/spinshim build/bundle.ts package.json LICENSE

.PHONY: help setup machine toolchain build launcher samples test demo check bench conformance endurance node-vm kubelet install uninstall clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: machine $(PACKAGES) ## check the machine, install what is missing (root, on Debian), npm packages

machine:
	@build/setup.sh all

toolchain:
	@build/setup.sh build

$(PACKAGES): package-lock.json | toolchain
	@echo 'setup: npm install'
	@$(NPM_INSTALL)
	@touch $@

build: $(BUNDLE) launcher ## bundles and launcher, into dist/

$(BUNDLE): $(BUNDLE_INPUTS) $(PACKAGES) shim-binary/thread-calls.c shim-binary/kernel-events.c shim-binary/v8-calls.cc | toolchain
	@$(MAKE) --no-print-directory -s -C shim-binary library
	@$(NODE) build/bundle.ts
	@touch $@

launcher: | toolchain
	@$(MAKE) --no-print-directory -s -C shim-binary

# Sample apps that are not committed; build.ts knows itself which of them are up to date.
samples: $(PACKAGES) $(FIXTURE_PACKAGES)
	@$(NODE) fixtures/build.ts

$(FIXTURE_PACKAGES): fixtures/package-lock.json | toolchain
	@echo 'setup: npm install in fixtures'
	@cd fixtures && $(NPM_INSTALL)
	@touch $@

test: setup build samples ## unit and end-to-end tests; root, with a containerd of their own
	@[ "$$(id -u)" = 0 ] || { echo 'error: the end-to-end tests start containerd and make namespaces: run "make test" as root' >&2; exit 1; }
	@$(NODE) build/test.ts

demo: setup build samples ## a Spin app in a pod of a private containerd; root
	@$(NODE) test/demo.ts

check: setup ## lint, format, types, import directions, unused code
	@node_modules/.bin/biome check
	@node_modules/.bin/tsc -p .
	@$(NODE) build/check-imports.ts
	@$(NODE) node_modules/knip/bin/knip.js

# PART="throughput soak" runs those parts only, RESULTS=FILE names the results file, BENCH_FLAGS are docs/performance.md's.
bench: setup build samples ## the benchmarks, eight minutes; root
	@build/setup.sh bench
	@$(NODE) bench/run.ts $(PART:%=--part %) $(if $(RESULTS),--output '$(RESULTS)') $(BENCH_FLAGS)

conformance: setup build samples ## our CRI tests, crictl, nerdctl, Docker, cri-tools' suite, containerd's client, containerd from 1.6 to 2.4 (built with Go where it is present)
	@build/setup.sh conformance
	@$(NODE) build/test.ts 'test/cri*.test.ts'
	@$(NODE) test/lines/build.ts
	@$(NODE) test/lines/clients.ts
	@$(NODE) test/lines/docker.ts
	@$(NODE) test/lines/run.ts
	@$(NODE) test/lines/critest.ts --workload apps
	@$(NODE) test/lines/critest.ts --workload linux
	@$(NODE) test/lines/client-suite.ts

endurance: setup build samples ## 1,200 pods come and go, and nothing may be left; root
	@$(NODE) test/endurance.ts

node-vm: setup build samples ## end-to-end tests on a Debian node under QEMU with systemd and cgroup version 2
	@build/setup.sh vm
	@$(NODE) test/node-vm/run.ts $(TESTS)

kubelet: setup build samples ## pods of a real cluster (API server, kubelet, kubectl, built with Go), in the machine of node-vm
	@build/setup.sh vm
	@$(NODE) test/lines/build.ts etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl
	@$(NODE) test/node-vm/run.ts test/node-vm/kubelet.vm.ts test/node-vm/kubelet-deployment.vm.ts

install: build ## install below PREFIX (/usr/local)
	@$(NODE) build/install.ts install '$(DESTDIR)$(PREFIX)'

uninstall: ## remove what install wrote
	@$(NODE) build/install.ts uninstall '$(DESTDIR)$(PREFIX)'

clean: ## remove what build wrote
	@rm -rf dist fixtures/build
