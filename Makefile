# Velum's tasks. `make demo` and `make test` work from a clean clone with Python 3, a C compiler and
# make; everything else comes from the package index into .venv and build/.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
BUILD   := build
PIP     := $(BIN)/python -m pip --disable-pip-version-check -q
CORE    := $(shell find csrc third_party -name '*.c' -o -name '*.h' -o -name '*.cmake' -o -name CMakeLists.txt)
BINDING := velum/_core.pyx velum/_core_values.pxi velum/_core_jobs.pxi velum/_core_names.pxi velum/_core_store.pxi velum/_core_members.pxi velum/_core_kv.pxi velum/_core_resp.pxi velum/_core_c.pxd velum/_core_kv_c.pxd CMakeLists.txt pyproject.toml
INSTALLED := $(addprefix tests/guests/,primes.wasm sum.wasm pi.wasm search.wasm floats.wasm)
C_FILES := $(shell find csrc examples -name '*.c' -o -name '*.h')
SECONDS_EACH ?= 600

# Tests start a thousand processes: each would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-c test-py check format soak fuzz bench guests cross scaling storage-bench kv-bench wheel sdist clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# ---- setting up: each stamp stands for what its recipe installed ----

$(VENV)/made:
	@echo "== a Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "velum needs Python 3.10 or newer"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/build-tools: $(VENV)/made
	@echo "== build tools"
	@sh tools/need-compiler.sh
	@$(PIP) install 'scikit-build-core>=0.10' 'cython>=3.0' pip 'cmake>=3.20' ninja
	@touch $@

$(VENV)/velum: $(VENV)/build-tools $(CORE) $(BINDING) $(INSTALLED)
	@echo "== velum: compiling the core and its binding"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --no-build-isolation -Cbuild-dir=$(BUILD)/editable -e .
	@touch $@

$(VENV)/test-tools: $(VENV)/velum
	@echo "== test tools"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --no-build-isolation -Cbuild-dir=$(BUILD)/editable -e '.[test]'
	@touch $@

$(VENV)/check-tools: $(VENV)/test-tools
	@echo "== check tools"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --no-build-isolation -Cbuild-dir=$(BUILD)/editable -e '.[check]'
	@touch $@

$(VENV)/bench-tools: $(VENV)/velum
	@echo "== bench tools"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --no-build-isolation -Cbuild-dir=$(BUILD)/editable -e '.[bench]'
	@touch $@

setup: $(VENV)/velum ## build velum into .venv

demo: $(VENV)/velum ## start a small mesh, run work on it while a node dies, show the answer
	@$(BIN)/velum demo

# ---- testing ----

test: test-c test-py ## every test but the slow ones

test-c: $(VENV)/build-tools ## C tests under ASan and UBSan
	@echo "== C tests, AddressSanitizer and UndefinedBehaviorSanitizer"
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S csrc -B $(BUILD)/asan -G Ninja --log-level=WARNING -DVELUM_TESTS=ON -DVELUM_SANITIZE=ON
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(BUILD)/asan
	@PATH="$(CURDIR)/$(BIN):$$PATH" ctest --test-dir $(BUILD)/asan --output-on-failure -j 2

test-py: $(VENV)/test-tools ## Python tests: policies, simulator, codec, real nodes
	@echo "== Python tests"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q -m 'not soak' -n 3 --dist loadfile

check: $(VENV)/check-tools ## ruff, mypy, clang-format, the tree's own checks
	@$(BIN)/ruff check velum tests bench examples tools
	@$(BIN)/ruff format --check velum tests bench examples tools
	@$(BIN)/mypy
	@$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	@$(BIN)/python tools/tidy.py
	@echo "check: clean"

format: $(VENV)/check-tools ## bring every file into form
	@$(BIN)/ruff check --fix -q velum tests bench examples tools
	@$(BIN)/ruff format -q velum tests bench examples tools
	@$(BIN)/clang-format -i $(C_FILES)

soak: $(VENV)/test-tools ## slow tests: 20,000 modules, long simulations, chaos, emulated machines, fuzzing
	@VELUM_SOAK=1 $(BIN)/python -m pytest -q tests/unit/test_validate_differential.py --timeout 3600
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S csrc -B $(BUILD)/soak -G Ninja -DVELUM_TESTS=ON
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(BUILD)/soak --target test_kv_bits test_kv_crash
	@VELUM_SOAK=1 $(BUILD)/soak/test/test_kv_bits
	@VELUM_SOAK=1 $(BUILD)/soak/test/test_kv_crash
	@$(BIN)/python -m pytest -q -m soak --timeout 3600 --ignore tests/integration/test_cross.py
	@$(MAKE) --no-print-directory cross fuzz

fuzz: $(VENV)/build-tools ## SECONDS_EACH (600) of each fuzz target under ASan
	@sh tools/need-debian.sh clang libclang-rt-14-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" CC=clang cmake -S csrc -B $(BUILD)/fuzz -G Ninja -DVELUM_FUZZ=ON -DVELUM_SANITIZE=ON
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(BUILD)/fuzz
	@sh tools/fuzz.sh $(BUILD)/fuzz/fuzz $(SECONDS_EACH)

cross: $(VENV)/test-tools ## build for other machines and run their workers in a mesh under emulation
	@sh tools/need-debian.sh qemu-user-static
	@$(PIP) install -r tests/guests/requirements.txt
	@$(BIN)/python tools/cross.py
	@VELUM_CROSS=1 $(BIN)/python -m pytest -q tests/integration/test_cross.py

scaling: $(VENV)/bench-tools ## scatter on 1 to 8 nodes, beside Ray and Dask; writes docs/scaling.md and .png; wants root
	@$(BIN)/python bench/scaling.py

storage-bench: $(VENV)/bench-tools ## files in RAM beside plain C, memcached and Redis; writes docs/storage_bench.md and .png
	@sh tools/need-debian.sh memcached redis-server || echo "going on without"
	@$(BIN)/python bench/storage.py

kv-bench: $(VENV)/bench-tools ## key-value state beside Redis and Zenoh; writes docs/kv_bench.md and .png
	@sh tools/need-debian.sh redis-server redis-tools || echo "going on without"
	@$(BIN)/python bench/kv.py

guests: $(VENV)/made ## rebuild the guests with the pinned compiler and compare
	@$(PIP) install -r tests/guests/requirements.txt
	@$(BIN)/python tests/guests/build.py

bench: $(VENV)/bench-tools ## every benchmark beside its rival; writes docs/benchmarks.md and .png
	@$(BIN)/python -m pytest -q bench --benchmark-only --benchmark-columns=min,median,max --benchmark-json=$(BUILD)/bench.json
	@$(BIN)/python bench/report.py $(BUILD)/bench.json

wheel: $(VENV)/made ## dist/*.whl
	@$(PIP) wheel --no-deps -w dist .

sdist: $(VENV)/made ## dist/*.tar.gz
	@$(PIP) install build
	@$(BIN)/python -m build --sdist -o dist .

clean: ## remove what was built; .venv stays
	rm -rf $(BUILD) dist
