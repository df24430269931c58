# The verbs of this project. Everything they need is installed by themselves, into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
QUICK := --ignore tests/integration --ignore tests/browser

.PHONY: demo test test-tools test-agents test-browser check unit bench bench-tools dist clean vendor
.DEFAULT_GOAL := check

$(READY): setup.cfg pyproject.toml loopsy/_version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check --upgrade pip setuptools wheel
	@# compat: twistd finds plugins by looking into directories, which setuptools' newer import hook hides
	$(BIN)/pip install -qq --disable-pip-version-check --config-settings editable_mode=compat -e '.[test]'
	@touch $@

demo: $(READY) ## two daemons on this machine, and the main job between them
	@$(BIN)/python -m loopsy.testing.demo

check: $(READY) ## lint, types, import contracts, unit tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 2 --dist loadfile $(QUICK)

# three at once on two cores: much of the time real machines are waited for (a peer's death, a time-out, an agent's start)
test: test-tools test-agents test-browser check ## all of it, with the real daemon, the real command and a real browser
	$(BIN)/pytest -n 3 --dist loadfile tests/integration
	$(BIN)/pytest tests/browser

test-tools: # hosts on a LAN of the tests' own, the shells that completion is for, programs for terminals; what is missing is skipped, and says so
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v ip && command -v zsh && command -v fish && command -v redis-server && command -v systemd-analyze && command -v tmux && command -v htop && command -v less; } >/dev/null; then \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq iproute2 zsh fish redis-server systemd tmux htop less >/dev/null; fi

test-agents: $(READY) # the real agent CLIs, into a cache folder outside of the project; what can't be had is skipped, and says so
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v npm >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm >/dev/null; fi
	@$(BIN)/python -m loopsy.testing.agents

test-browser: $(READY) # Chromium for the dashboard's tests, and axe-core; what can't be had is skipped, and says so
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v chromium && command -v npm && command -v vi; } >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core nodejs npm vim-tiny >/dev/null; fi
	@$(BIN)/python -m loopsy.testing.axe

unit: $(READY)
	$(BIN)/pytest $(QUICK)

bench: $(READY) bench-tools ## speed and memory, beside what you would use instead
	$(BIN)/python -m bench

bench-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v wrk && test -x /usr/sbin/sshd && command -v rsync; } >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssh-server openssh-client rsync wrk >/dev/null; fi

vendor: ## refresh the dashboard's vendored files from the npm registry; versions are pinned in tools/vendor.py
	$(PYTHON) tools/vendor.py

dist: $(READY) ## a wheel and a source archive in dist/
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis test-artefacts
