#!/usr/bin/env bash
# Installs the toolkit into a virtual environment inside the clone, .venv, and checks it. Run again, it does nothing.
#
#   bash tools/install.sh                               what the recipes need
#   bash tools/install.sh --extras "test lhotse"        and further extras of setup.py
#   bash tools/install.sh --python python3.12           with this Python, 3.10 or newer
#   bash tools/install.sh --index-url URL               torch and torchaudio from another package index, such as the
#                                                       one of CPU-only builds (both have to come from the same)
# To change the Python or the index afterwards, delete .venv first.
#
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

# Options
extras=             # extras of setup.py, besides mini and tensorboard
python=             # the Python to use; by default the first of python3, python3.13, … that is new enough
index_url=          # package index for torch and torchaudio
quiet=false         # say nothing when there is nothing to do
# End of options
# shellcheck source=egs/TEMPLATE/asr1/utils/parse_options.sh
. "$root/egs/TEMPLATE/asr1/utils/parse_options.sh"

venv=$root/.venv
stamp=$venv/installed # written last; its lines: made from what, with which extras, with which --python and --index-url
unfinished=$root/.venv.incomplete # is there while pip is at work, since a kill leaves packages half there
read -ra candidates <<<"python3 python3.13 python3.12 python3.11 python3.10 python"
[[ -z $python ]] || candidates=("$python")

die() { echo "error: $*" >&2 && exit 1; }

find_python() { # prints the first Python that is new enough and can make environments
    local candidate
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "no Python >= 3.10 with venv and ensurepip among: ${candidates[*]};" \
        "install one (Debian and Ubuntu: apt install python3 python3-venv), or name one with --python"
}

make_venv() { # unless a usable one is there
    if [[ -e $unfinished ]]; then
        echo "an earlier installation was cut off: starting again"
        rm -rf "$venv"
    fi
    touch "$unfinished"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        local found
        found=$(find_python)
        echo "making $venv with $("$found" --version)"
        "$found" -m venv --clear "$venv"
    fi
}

pip_install() {
    local code=0
    "$venv/bin/python" -m pip install --disable-pip-version-check -qq "$@" || code=$?
    ((code == 0)) && return
    ((code > 128)) || rm -f "$unfinished" # pip has ended by itself, and then takes back what it has begun
    exit "$code"
}

trap 'exit 130' INT # else a Ctrl-C that pip answers with an exit code would look like an error of pip's own
valid=" $(sed -n '/^EXTRAS = {/,/^}/ s/^ *"\([a-z]*\)":.*/\1/p' "$root/setup.py" | xargs) all test "
for extra in $extras; do
    [[ $valid == *" $extra "* ]] || die "setup.py has no extra '$extra'; it has:${valid% }"
done
made_from="$root $(cat "$root/setup.py" "$root/tools/constraints.txt" | cksum)"
wanted="mini tensorboard $extras"
if [[ -e $stamp && ! -e $unfinished ]]; then
    mapfile -t lines <"$stamp"
    if [[ -n $python$index_url && $python$index_url != "${lines[2]}" ]]; then
        die "$venv was made with another --python or --index-url: delete it first"
    fi
    missing=
    for extra in $wanted; do [[ " ${lines[1]} " == *" $extra "* ]] || missing+=" $extra"; done
    if [[ ${lines[0]} == "$made_from" && -z $missing ]]; then
        $quiet || echo "already installed in $venv (extras: ${lines[1]})"
        exit 0
    fi
    for extra in ${lines[1]}; do [[ $valid != *" $extra "* ]] || wanted+=" $extra"; done
fi
wanted=$(tr ' ' '\n' <<<"$wanted" | sort -u | xargs)

make_venv
echo "installing into $venv (extras: $wanted); the first time this takes some minutes and 5 GB"
if [[ -n $index_url ]]; then
    # shellcheck disable=SC2046  # one word a package
    pip_install --index-url "$index_url" $(grep -E '^torch(audio)?==' "$root/tools/constraints.txt")
fi
pip_install -c "$root/tools/constraints.txt" -e "${root}[${wanted// /,}]"
rm "$unfinished"
# shellcheck disable=SC2086  # one word an extra
"$venv/bin/python" "$root/tools/check_install.py" $wanted
printf '%s\n' "$made_from" "$wanted" "$python$index_url" >"$stamp.new"
mv "$stamp.new" "$stamp"
