# Needs python3 and make; everything else is installed into .venv and .tools. Reasons are in launch/setup/setup.sh.
BIN := .venv/bin
STAMP := .venv/handsight.stamp

# Without this the repository root is importable and transformers takes our kernels/ for the package of that name.
export PYTHONSAFEPATH := 1
export MUJOCO_GL ?= egl
# Mesa's software renderer: no extra threads, there is one environment per core already.
export LP_NUM_THREADS ?= 0

.PHONY: setup demo test lint typecheck lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml .python-version launch/setup/setup.sh
	sh launch/setup/setup.sh
	@touch $@

demo: export HF_HUB_OFFLINE = 1
demo: setup
	$(BIN)/handsight rollout --policy.path=zoo/fuse --env.task=sense/bag_shape --describe=T,T:shape --episodes=20 --workers=2 --out=demo

# One thread per worker: two workers on two cores that each start two threads wait for each other.
test: export HF_HUB_OFFLINE = 1
test: export OMP_NUM_THREADS ?= 1
test: setup
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not gpu and not ros2 and not network"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: setup
	$(BIN)/mypy -p handsight -p lerobot_policy_handsight

# Universal: one lock for every platform. Names no index, so that the machine's own configuration decides.
lock: setup
	UV="$$(sh launch/setup/setup.sh uv)" && "$$UV" pip compile pyproject.toml --all-extras --generate-hashes --universal \
	  --python-version 3.12 --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock

clean:
	rm -rf .venv .tools dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
