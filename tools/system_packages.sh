# Checks what must come from the system, and installs it when it can. Sourced by bootstrap.sh.
# shellcheck shell=bash

# have_library NAME: whether the dynamic loader knows a library whose file name starts with NAME.
have_library() {
    local listed
    listed=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null) || return 1
    [[ "$listed" == *"$1"* ]]
}

# have_software_gl: whether Mesa's software renderer is there (or a graphics driver that brings its own EGL).
have_software_gl() {
    local found
    found=$(find /usr/lib /usr/lib64 /usr/share/glvnd/egl_vendor.d -maxdepth 3 \
        \( -name 'swrast_dri.so' -o -name 'libgallium*.so' -o -name '10_nvidia.json' \) -print -quit 2>/dev/null)
    [[ -n "$found" ]]
}

# install_packages WHY PACKAGE...: installs Debian packages when root, else says in one line how to, and fails.
install_packages() {
    local why=$1
    shift
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "setup: missing $why; install it with: sudo apt-get install $*" >&2
        return 1
    fi
    say "installing $* ($why)"
    mkdir -p "$LOGS"
    if ! { apt-get -o Acquire::Retries=3 update &&
        DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y --no-install-recommends "$@"; } \
        >"$LOGS/apt.log" 2>&1 </dev/null; then
        tail -n 5 "$LOGS/apt.log" >&2
        echo "setup: apt-get could not install $* ($why); see $LOGS/apt.log" >&2
        return 1
    fi
}

# python_fits PYTHON: whether it runs and is of a version that the pinned wheels exist for.
python_fits() {
    "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# choose_python: sets PYTHON to the interpreter the environment is made from.
choose_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        python_fits "$PYTHON" && return 0
        echo "setup: PYTHON=$PYTHON is not a Python 3.11 to 3.13; unset it or name another" >&2
        return 1
    fi
    for candidate in python3 python3.11 python3.12 python3.13; do
        if command -v "$candidate" >/dev/null && python_fits "$candidate"; then
            PYTHON=$candidate
            return 0
        fi
    done
    install_packages "Python 3.11 to 3.13" python3 python3-venv python3-dev || return 1
    PYTHON=python3
    python_fits "$PYTHON" && return 0
    echo "setup: the python3 of this system is not 3.11 to 3.13; install one of those and set PYTHON to it" >&2
    return 1
}

# ensure_system_packages: compiler, CMake, Python's venv module and headers, OpenGL.
ensure_system_packages() {
    local packages=() why=()
    need() { why+=("$1"); shift; packages+=("$@"); }
    command -v g++ >/dev/null || command -v c++ >/dev/null || need "C++ compiler" g++
    command -v make >/dev/null || command -v ninja >/dev/null || need "make" make
    command -v cmake >/dev/null || need "CMake" cmake
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || need "Python's venv module" python3-venv
    "$PYTHON" -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' \
        || need "Python headers" python3-dev
    have_library libEGL.so.1 || need "EGL library" libegl1
    have_library libGL.so.1 || need "OpenGL library" libgl1
    have_software_gl || need "software OpenGL renderer" libgl1-mesa-dri
    unset -f need
    if [[ ${#packages[@]} -gt 0 ]]; then
        local reason
        printf -v reason '%s, ' "${why[@]}"
        install_packages "${reason%, }" "${packages[@]}"
    fi
}
