#!/usr/bin/env bash
# Runs rankbench of a bundle with a libtorch of the right version: $LIBTORCH, a folder libtorch beside this file, or the
# torch of the node's Python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
wanted=2.11.0
version_of() { sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$1/version.py" 2>/dev/null || true; }

python_torch=$(python3 -c 'import importlib.util as u, os; s = u.find_spec("torch"); print(os.path.dirname(s.origin) if s else "")' 2>/dev/null || true)
seen=""
for torch in "${LIBTORCH:-}" "$here/libtorch" "$python_torch"; do
    [ -n "$torch" ] && [ -f "$torch/lib/libtorch_cpu.so" ] || continue
    found=$(version_of "$torch")
    # The plain libtorch archive says its version in another file.
    [ -n "$found" ] || found=$(sed 's/+.*//' "$torch/build-version" 2>/dev/null || true)
    if [ "$found" = "$wanted" ]; then
        export LD_LIBRARY_PATH="$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
        export RANKBENCH_HOME="${RANKBENCH_HOME:-$here}"
        # What a script for other machines has to start.
        export RANKBENCH_PROGRAM="$here/$(basename "$0")"
        [ ! -d "$here/glue" ] || export GLUE_DIR="${GLUE_DIR:-$here/glue}"
        exec "$here/rankbench.bin" "$@"
    fi
    seen="$seen  $torch (${found:-unknown version})"$'\n'
done
echo "rankbench: no libtorch $wanted here" >&2
[ -z "$seen" ] || printf 'looked at:\n%s' "$seen" >&2
echo "set LIBTORCH to one (the folder torch of the Python package torch==$wanted, or an unpacked libtorch), or put it beside this file as libtorch" >&2
exit 7
