#!/bin/sh
# From python3 to a working .venv: uv, Python 3.12, the locked packages, handsight itself (editable), the OpenGL libraries.
# Run by `make setup` from the repository's root; running it again only does what is missing. `setup.sh uv` prints where uv is.
# Nothing is installed outside the repository but Debian packages, and those only as root.
set -eu

UV_VERSION=0.13.9
GL_PACKAGES="libegl1 libgl1-mesa-dri libopengl0" # as in launch/gl.py

say() { printf 'handsight setup: %s\n' "$*" >&2; }

# Debian packages: as root installed, otherwise the one command is printed and setup stops.
need_debian() {
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing $*"
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
    else
        say "expected the system packages $*; run: sudo apt-get update && sudo apt-get install -y $*; then run make again"
        exit 1
    fi
}

# The project's own uv, else the user's, else a private one in .tools (never system-wide).
find_uv() {
    if [ -x .tools/bin/uv ]; then echo .tools/bin/uv; return; fi
    if command -v uv >/dev/null; then command -v uv; return; fi
    say "installing uv $UV_VERSION into .tools"
    # Debian ships python3 without ensurepip, and `-m venv` fails without it.
    python3 -c 'import ensurepip' 2>/dev/null || need_debian python3-venv
    python3 -m venv .tools && .tools/bin/python -m pip install --quiet "uv==$UV_VERSION" >&2
    echo .tools/bin/uv
}

UV=$(find_uv)
if [ "${1:-}" = uv ]; then echo "$UV"; exit 0; fi

PYTHON_VERSION=$(cat .python-version)
if ! .venv/bin/python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$PYTHON_VERSION')" 2>/dev/null; then
    say "creating .venv with Python $PYTHON_VERSION"
    "$UV" venv --quiet --clear --python "$PYTHON_VERSION" .venv
fi

export VIRTUAL_ENV="$PWD/.venv"
say "installing the locked packages (about 6 GB on Linux, where PyPI's torch brings CUDA)"
"$UV" pip sync --require-hashes requirements.lock
# The build backend is in the lock, so that no isolated environment (and no second download) is needed.
"$UV" pip install --quiet --no-deps --no-build-isolation --editable .

# Really renders a frame: a machine whose graphics driver brings EGL needs no Mesa.
if ! .venv/bin/python -m handsight.launch.gl >/dev/null 2>&1; then
    # shellcheck disable=SC2086  # three packages, three words
    need_debian $GL_PACKAGES
    .venv/bin/python -m handsight.launch.gl
fi
say "ready"
