#!/usr/bin/env bash
# Installs the toolkit into a virtual environment inside the clone, .venv, and checks it. Run again, it does nothing.
#
#   bash tools/install.sh                               what the recipes need
#   bash tools/install.sh --extras "test lhotse"        and further extras of setup.py
#   bash tools/install.sh --python python3.12           with this Python, 3.10 or newer
#   bash tools/install.sh --index-url URL               torch and torchaudio from another package index, such as the
#                                                       one of CPU-only builds (both have to come from the same)
# To change the Python or the index afterwards, delete .venv first. A clone that was moved or copied gets a new one; where
# machines or containers see one clone under several paths, let OMNIROUTER_VENV name an environment of their own.
#
set -euo pipefail
root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)

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
unfinished=$root/.venv.incomplete # is there while pip is at work, since a kill leaves packages half there; lists those
#                                   that were there before, if only extras are added
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

lock() { # waits until no other command installs here; the lock ends with this script and what it has started
    local any
    if ! any=$(find_python 2>/dev/null); then
        any=$venv/bin/python
        [[ -x $any ]] || find_python # says what is missing, and ends
    fi
    exec 9>>"$root/.venv.lock"
    "$any" "$root/tools/lock.py" "another command is installing into $venv: waiting for it" # flock is not on macOS
}

read_stamp() { # sets ${lines} of a finished installation, and ${missing}, the extras it lacks; else both stay empty
    local extra
    lines=() missing=
    [[ -e $stamp ]] || return 0
    mapfile -t lines <"$stamp"
    if [[ -n $python$index_url && $python$index_url != "${lines[2]}" ]]; then
        die "$venv was made with another --python or --index-url: delete it first"
    fi
    for extra in $wanted; do [[ " ${lines[1]} " == *" $extra "* ]] || missing+=" $extra"; done
}

stop_if_installed() {
    read_stamp
    if [[ -e $stamp && ! -e $unfinished && ${lines[0]} == "$made_from" && -z $missing ]]; then
        $quiet || echo "already installed in $venv (extras: ${lines[1]})"
        exit 0
    fi
}

in_packages() { # prints what pip has put beside the packages and is found by these tests of `find`
    find "$venv"/lib/python*/site-packages -maxdepth 1 "$@" 2>/dev/null || true
}
packages() { # prints by what pip knows each package, this one aside, which is made anew each time
    in_packages -name '*.dist-info' ! -name 'omnirouter-*'
}

repair() { # after a kill: packages that were complete before stay, of the others pip is to know nothing
    if [[ -s $unfinished && -z $(in_packages -name '~*' ! -name '~mnirouter*') ]]; then # ~: pip was replacing something
        echo "an earlier installation of extras was cut off: what was there before is kept"
        packages | grep -vxFf "$unfinished" | tr '\n' '\0' | xargs -0 rm -rf || true
        rm -rf "$venv"/lib/python*/site-packages/{omnirouter-*.dist-info,~mnirouter*}
    else
        echo "an earlier installation was cut off: starting again"
        : >"$unfinished"
        rm -rf "$venv"
    fi
}

is_from_elsewhere() { # tells whether the clone was moved or copied: the environment's scripts are those of another place
    [[ -e $stamp && ! ${lines[0]% * *}/.venv -ef $venv ]]
}

make_venv() { # unless a usable one is there
    if is_from_elsewhere; then
        [[ ${lines[2]} == "$python$index_url" ]] ||
            die "$venv was made for ${lines[0]% * *}, with --python or --index-url: give the same again (${lines[2]})"
        echo "$venv was made for ${lines[0]% * *}: making it anew"
        : >"$unfinished"
        rm -rf "$venv"
    elif [[ -e $unfinished ]]; then
        repair
    elif [[ -e $stamp && ${lines[0]} == "$made_from" ]]; then
        packages >"$unfinished.new"
        mv "$unfinished.new" "$unfinished"
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
stop_if_installed
lock
stop_if_installed # by the command that this one has waited for
for extra in ${lines[1]:-}; do [[ $valid != *" $extra "* ]] || wanted+=" $extra"; done
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
