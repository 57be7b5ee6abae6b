#!/usr/bin/env bash
# Builds sdist and wheel and installs both where nothing of this checkout is seen: does what is shipped run, and is what should not be shipped left out?
#   tools/check_package.sh PYTHON [SECONDS of the search that is tried; 0 = none]
# Heavy packages (torch, scipy) are not downloaded again: the new environments see those of PYTHON's environment through a path file.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${1:?"usage: tools/check_package.sh PYTHON [SECONDS]"}
SEARCH=${2:-0}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
SITE=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')${HEAVY:+"
$HEAVY"}   # HEAVY: one more folder of packages
HERE=$("$PYTHON" -c 'import sys; print(sys.base_prefix + "/bin/python" + sys.version[:4].rstrip("."))')

"$PYTHON" -m build --no-isolation --outdir "$WORK/dist" . >"$WORK/build.log" || { cat "$WORK/build.log"; exit 1; }
"$PYTHON" - "$WORK"/dist/*.tar.gz "$WORK"/dist/*.whl <<'END'
import sys, tarfile, zipfile
source = {name.partition("/")[2] for name in tarfile.open(sys.argv[1]).getnames()}
wheel = set(zipfile.ZipFile(sys.argv[2]).namelist())
for name in ("README.md", "LICENSE", "CHANGELOG.md", "archduel/__init__.py", "tests/conftest.py", "docs/tutorial.md"):
    assert name in source, f"the sdist lacks {name}"
left = [name for name in source if name.startswith(("benchmarks/records", ".ci", "runs", "site/"))]
assert not left, f"the sdist holds {left[:3]}"
for name in ("archduel/py.typed", "archduel/commands/__init__.py"):
    assert name in wheel, f"the wheel lacks {name}"
strange = [name for name in wheel if not name.startswith(("archduel/", "archduel-"))]
assert not strange, f"the wheel holds {strange[:3]}"
print(f"sdist {len(source)} files, wheel {len(wheel)} files")
END
for file in "$WORK"/dist/*.whl "$WORK"/dist/*.tar.gz; do
  ENV="$WORK/$(basename "$file").env"
  "$HERE" -m venv "$ENV"
  "$ENV/bin/python" -c 'import sys, sysconfig; open(sysconfig.get_path("purelib") + "/heavy.pth", "w").write(sys.argv[1] + "\n")' "$SITE"
  "$ENV/bin/python" -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation "$file"
  (cd "$WORK" && "$ENV/bin/archduel" --version && "$ENV/bin/python" -c 'import archduel, sys; assert archduel.__file__.startswith(sys.prefix), archduel.__file__'
   "$ENV/bin/archduel" search digits --plan --evaluations 4 >/dev/null
   if [ "$SEARCH" != 0 ]; then "$ENV/bin/archduel" search digits --time "${SEARCH}s" --out "$ENV/run" --quiet && ls "$ENV/run/export/model.py" "$ENV/run/report.html"; fi)
  echo "installed and run: $(basename "$file"), $(wc -c <"$file") bytes"
done
