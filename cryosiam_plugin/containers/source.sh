# Sourced by the two build scripts in this package's folder: sets version and revision, for the
# image's labels and for the record of every result.
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' engine/cryosiam_engine/__init__.py)
revision="distribution $version"
if git ls-files --error-unmatch containers/apptainer.def >/dev/null 2>&1; then
    # A checkout. (An installed package may lie inside of a checkout of something else.)
    revision=$(git describe --always --abbrev=40 --dirty --exclude '*')
elif grep -Eqsx '[0-9a-f]{40}(-dirty)?' containers/revision.txt; then
    # What the package was built from: setup.py writes it.
    read -r revision <containers/revision.txt
fi
