# The targets that developers and CI call; `make` lists them.

UPSTREAM = auto
USERS = 3
BROWSER =

# One word of shell, whatever the value holds.
quote = '$(subst ','\'',$(1))'

.PHONY: help run test test-unit test-adapter test-node test-tools test-integration test-hostile test-guest fuzz lint docs deb clean

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
test-node: ## check the server of one user
test-tools: ## check with-systemd itself
test-integration: ## check all of it on a real systemd
test-hostile: ## check what no honest caller sends
test-unit test-adapter test-node test-tools test-integration test-hostile: test-%:
	@tools/install-deps test
	@tools/run-tests $*

test-guest: deb ## check the package in booted Debian 12 and 13 (needs root)
	@/usr/bin/python3 -m pytest -p no:cacheprovider tests/guest

fuzz: ## look for what test-hostile has not found yet, for an hour or so
	@tools/install-deps test
	@WAPORTD_FUZZ=fuzz tools/run-tests hostile

lint: ## check style and types
	@tools/install-deps test
	@tools/run-tests lint

docs: ## write config.example.yaml and docs/configuration.md from the schema
	@tools/reference

# In a copy, since dpkg-buildpackage puts what it makes beside the sources; with Debian's programs, whatever PATH is.
deb: ## build dist/waportd_<version>_all.deb
	@rm -rf build/deb
	@mkdir -p build/deb/waportd dist
	@git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C build/deb/waportd
	@cache=$$(npm config get cache) && cd build/deb/waportd && \
		env PATH=/usr/sbin:/usr/bin:/sbin:/bin npm_config_cache="$$cache" dpkg-buildpackage --no-sign --build=binary
	@mv build/deb/*.deb dist/

clean: ## remove what the other targets made, sessions of `make run` included
	rm -rf .run .venv .mypy_cache .ruff_cache node_modules build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
