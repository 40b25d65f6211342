# The targets that developers and CI call; `make` lists them.

UPSTREAM = auto
USERS = 3
BROWSER =

PYTHON = /usr/bin/python3
PREFIX = /usr/local
DESTDIR =
VERSION =
KEY =
REPOSITORY = dist/repository

# One word of shell, whatever the value holds.
quote = '$(subst ','\'',$(1))'

QUICK =

.PHONY: help run test test-unit test-adapter test-fleet test-node test-tools test-integration test-pages test-package test-hostile test-contract test-guest fuzz reliability chaos soak endurance bench lint format audit docs screenshots site deb extension sbom release repository build install uninstall clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## /  make \1\t/p' Makefile | expand -t 26

run: ## run waportd with USERS=3 users and draw their codes (UPSTREAM=auto|whatsapp|standin, BROWSER=/path)
	@tools/install-deps run
	@tools/with-systemd --writable .run --home .run/home -- tools/demo \
		--upstream $(call quote,$(UPSTREAM)) --users $(call quote,$(USERS)) --browser $(call quote,$(BROWSER))

test: ## install what is missing and run every check
	@tools/install-deps test
	@tools/run-tests $(if $(CI),--no-skips)

test-unit: ## check one module at a time
test-adapter: ## check what systemd and D-Bus do in their bad moments
test-fleet: ## check what many hosts share, with the etcd of both Debians
test-node: ## check the server of one user
test-tools: ## check with-systemd itself
test-integration: ## check all of it on a real systemd
test-pages: ## check the pages for people, in a real browser
test-hostile: ## check what no honest caller sends
test-package: ## check the Debian package: lintian, manual pages, and that two builds are the same
test-guest: ## check the package in booted Debian 12 and 13 (needs root)
test-contract: ## check that the API is what /openapi.json says
test-unit test-adapter test-fleet test-node test-tools test-integration test-pages test-hostile test-package test-guest test-contract: test-%:
	@tools/install-deps test
	@tools/run-tests $*

reliability: ## break everything in booted machines, as often as it takes, and write docs/reliability.md
	@tools/install-deps test
	@rm -f .run/test/faults.json .run/test/faults-sessions.json
	@$(MAKE) deb
	@# Three machines at a time: for most of an hour two of them only count how often a server starts.
	@WAPORTD_FAULTS=all /usr/bin/python3 -m pytest -p no:cacheprovider -n 3 --dist loadgroup \
		tests/guest/test_patience.py tests/guest/test_faults.py tests/guest/test_disks.py tests/guest/test_first_command.py tests/guest/test_engines.py tests/guest/test_admin.py tests/guest/test_move.py tests/guest/test_backup.py \
		tests/guest/test_environments.py tests/guest/test_package.py tests/guest/test_small_host.py \
		tests/guest/test_configuration.py tests/guest/test_waportctl.py tests/guest/test_reboot.py tests/guest/test_fleet.py tests/guest/test_fleet_guide.py tests/guest/test_fleet_mixed.py
	@WAPORTD_FAULTS=all tools/with-systemd --private-network --writable .run -- /usr/bin/python3 -m pytest -p no:cacheprovider \
		tests/integration/test_faults.py tests/integration/test_clock.py tests/integration/test_limits.py \
		tests/integration/test_outages.py tests/integration/test_recovery.py tests/integration/test_move.py tests/integration/test_load.py \
		tests/integration/test_passkeys.py
	@tools/reliability faults

chaos: ## kill, reload and hold up eight linked sessions and their web app for 15 minutes, and write it into docs/reliability.md
	@tools/install-deps test
	@WAPORTD_CHAOS=full tools/with-systemd --private-network --writable .run -- \
		/usr/bin/python3 -m pytest -p no:cacheprovider tests/integration/test_chaos.py
	@tools/reliability chaos

soak: ## run 300 servers with 800 callers for ten minutes (needs 16 GB of memory)
	@tools/install-deps test
	@WAPORTD_LOAD=full tools/with-systemd --private-network --writable .run -- \
		/usr/bin/python3 -m pytest -p no:cacheprovider tests/integration/test_load.py
	@tools/reliability load

endurance: ## send messages for an hour, and check that no memory grows
	@tools/install-deps test
	@WAPORTD_ENDURANCE=full tools/with-systemd --private-network --writable .run -- \
		/usr/bin/python3 -m pytest -p no:cacheprovider tests/integration/test_endurance.py
	@tools/reliability endurance

fuzz: ## try generated inputs that test-hostile has not tried yet, for an hour or two
	@tools/install-deps test
	@WAPORTD_FUZZ=fuzz tools/run-tests hostile

bench: ## measure everything, and write docs/benchmarks.md (QUICK=1: see in a minute whether it can be measured)
	@tools/install-deps test
	@rm -rf .run/bench
	@# As it is installed. Python keeps no bytecode in a checkout where PYTHONDONTWRITEBYTECODE is set, or it cannot write.
	@/usr/bin/python3 -m compileall -q waportd
	@# Where it is set, each node reads all these certificates when it starts: 40 ms that no service of systemd has.
	@env -u NODE_EXTRA_CA_CERTS tools/with-systemd --private-network --writable .run -- /usr/bin/python3 -m bench $(if $(QUICK),--quick)
	@# Its machines have the package installed.
	@$(MAKE) --no-print-directory deb
	@/usr/bin/python3 -m bench $(if $(QUICK),--quick) fleet_engine fleet_failover
	@/usr/bin/python3 -m bench.report $(if $(QUICK),--into .run/bench/report)

lint: ## check style and types
	@tools/install-deps test
	@tools/run-tests lint

format: ## format Python, JavaScript and CSS
	@tools/install-deps test
	@.venv/bin/ruff format . $$(grep -ls '^#!/usr/bin/python3' tools/*)
	@node_modules/.bin/prettier --write --log-level warn .

audit: ## ask npm and Debian for known vulnerabilities of what waportd runs on (tools/audit-exceptions.yaml)
	@tools/install-deps test
	@tools/audit

docs: ## write config.example.yaml, docs/configuration.md and docs/api.md from the code
	@tools/reference

screenshots: ## take the pictures of docs/images again
	@tools/install-deps test
	@tools/with-systemd --private-network --writable .run --writable docs/images -- /usr/bin/python3 tests/integration/screenshots.py

site: ## write the documents as a website into dist/site
	@tools/install-deps test
	@tools/website

deb: ## build dist/waportd_<version>_all.deb
	@tools/install-deps deb
	@tools/build-deb build/deb dist

release: ## commit and tag VERSION=1.2.0, and build its package and bill of materials
	@tools/install-deps test
	@tools/release $(call quote,$(VERSION))
	@$(MAKE) deb sbom

repository: ## put the package into a signed apt repository: KEY=FINGERPRINT, REPOSITORY=dist/repository
	@tools/install-deps test
	@tools/repository $(call quote,$(KEY)) $(call quote,$(REPOSITORY)) dist/waportd_*_all.deb

# What `make install` copies. Two trees of the same sources are the same, byte for byte.
build: build/modules build/waportd.cdx.json ## make what install needs; not as root
	@$(PYTHON) tools/manpages build/man
	@$(PYTHON) tools/completions build/completions
	@rm -rf build/units
	@PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m waportd --config config.example.yaml \
		generate-units --prefix $(call quote,$(PREFIX)) --output build/units

build/modules: package.json package-lock.json tools/keep-modules tools/shipped-modules.txt
	@rm -rf $@ && mkdir -p $@
	@cp package.json package-lock.json $@/
	@# What is optional is for the library's RemoteAuth, which no server loads.
	@cd $@ && PUPPETEER_SKIP_DOWNLOAD=1 npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund --prefer-offline
	@$(PYTHON) tools/keep-modules $@
	@# What node never loads: types, source maps, pages, C, and settings of tools.
	@rm -rf $@/node_modules/fluent-ffmpeg/coverage $@/node_modules/fluent-ffmpeg/doc $@/node_modules/@types
	@cd $@/node_modules/libphonenumber-js && rm -rf bundle es6 es6-modern source
	@find $@/node_modules -regextype posix-extended -iregex \
		'.*/(\.[^/]+|readme(\.[a-z]+)?|cmakelists\.txt|[^/]+\.(ts|cts|mts|map|md|html|c))' \
		-prune ! -iname 'licen[cs]e*' -exec rm -r {} +
	@find $@/node_modules -type d -empty -delete
	@touch $@

extension: ## write the browser extension for the stores: build/waportd-passkey-chrome.zip and -firefox.zip
	@PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m waportd.extension build

sbom: build/waportd.cdx.json ## write what modules are shipped into build/waportd.cdx.json (CycloneDX)

build/waportd.cdx.json: build/modules tools/sbom debian/changelog
	@$(PYTHON) tools/sbom build/modules $@

install: ## install below PREFIX=/usr/local what `make build` made; for a package, into DESTDIR=
	@$(PYTHON) tools/install --destdir $(call quote,$(DESTDIR)) --prefix $(call quote,$(PREFIX)) $(INSTALL_OPTIONS)

uninstall: ## remove what `make install` installed; configuration and sessions stay
	@$(PYTHON) tools/install --destdir $(call quote,$(DESTDIR)) --prefix $(call quote,$(PREFIX)) --remove

clean: ## remove what the other targets made, sessions of `make run` included
	rm -rf .run .venv .mypy_cache .ruff_cache node_modules build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
