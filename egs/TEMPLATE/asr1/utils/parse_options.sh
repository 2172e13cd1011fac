#!/usr/bin/env bash
# To be sourced by a script as `. utils/parse_options.sh`, with the script's "$@": sets its options from the command line.
#
# The options are the script's own lines between `# Options` and `# End of options`,
#     nj=4                # parallel jobs
# which are the default, the help text, and the list of valid names at once. A default of `false` makes a flag, which
# takes no value; where the default is a whole number, the value must be one. `--name value` and `--name=value` mean the
# same, and so do `-` and `_` within a name; a value that itself begins with `--` needs the second form. Of an option
# given twice, the last counts. --help prints the script's header comment and its options. Nothing is ever evaluated.
#
# A script that itself calls another one, and names it in ${_callee} before this (an array, where that one calls a third),
# takes its own options; what it is given of the others' is left, in order and --help with it, in the array ${passed_on}.
# A script whose help is to begin with the header of the one that calls it names that one in ${_caller}.

_option_names=()
_option_flags=()
_option_numbers=()
_option_helps=()
passed_on=()

_fail() {
    echo "error: $1" >&2
    exit 1
}

_read_options() { # fills the lists above from the script $1
    local line inside=false
    while IFS= read -r line; do
        case $line in
            '# Options'*) inside=true ;;
            '# End of options'*) return ;;
        esac
        if $inside && [[ $line =~ ^([a-z][a-z0-9_]*)=(.*[^ ])?\ +'# '(.*)$ ]]; then
            _option_names+=("${BASH_REMATCH[1]}")
            _option_flags+=("$([[ ${BASH_REMATCH[2]} == false ]] && echo true || echo false)")
            _option_numbers+=("$([[ ${BASH_REMATCH[2]} == *[!0-9]* || -z ${BASH_REMATCH[2]} ]] && echo false || echo true)")
            _option_helps+=("${BASH_REMATCH[3]}")
        fi
    done <"$1"
    _fail "$1 has no line '# End of options'"
}

_option_index() { # prints the place in the lists of the option $1, written with underscores
    local _i
    for _i in "${!_option_names[@]}"; do
        if [[ ${_option_names[_i]} == "$1" ]]; then
            echo "$_i"
            return
        fi
    done
    local names="${_option_names[*]//_/-}"
    _fail "unknown option --${1//_/-}; valid ones are --help --${names// / --}"
}

_print_header() { # the comment at the top of the script $1
    sed -n '2,/^[^#]/ { /^[^#]/q; s/^# \{0,1\}//p; }' "$1"
}

_print_help() { # of the script $1, after the header of its caller; a caller with options has printed its own help
    if [[ -f ${_caller:-} ]] && ! grep -q '^# Options' "$_caller"; then
        _print_header "$_caller"
        echo
    fi
    _print_header "$1"
    echo "Options, with their values here:"
    local _i _value
    for ((_i = 0; _i < _own_options; _i++)); do
        _value="${!_option_names[_i]}"
        [[ $_value != false ]] || _value=
        printf '  --%-17s %s%s\n' "${_option_names[_i]//_/-}" "${_option_helps[_i]}" "${_value:+ [$_value]}"
    done
    if [[ -n ${_callee:-} ]]; then echo; else echo "  --help              print this"; fi
}

_parse_options() { # $1 is the script, the others are its arguments; locals have a `_`, since an option may be called `name`
    local _script=$1 _name _value _index _wants_help=false
    shift
    while (($#)); do
        case $1 in
            --help | -h)
                _wants_help=true
                shift
                continue
                ;;
            --?*) ;;
            *) _fail "unexpected argument '$1'; options are given as --name value" ;;
        esac
        _name=${1#--}
        _name=${_name%%=*}
        _index=$(_option_index "${_name//-/_}") || exit 1
        if ${_option_flags[_index]}; then
            [[ $1 != *=* ]] || _fail "--$_name takes no value"
            _value=true
        elif [[ $1 == *=* ]]; then
            _value=${1#*=}
        else
            (($# > 1)) || _fail "--$_name lacks a value: ${_option_helps[_index]}"
            [[ $2 != --* ]] ||
                _fail "--$_name lacks a value: ${_option_helps[_index]} (a value ${2@Q} is given as --$_name=${2@Q})"
            _value=$2
            shift
        fi
        if ((_index >= _own_options)); then
            passed_on+=("--$_name")
            ${_option_flags[_index]} || passed_on[-1]+="=$_value"
        else
            ! ${_option_numbers[_index]} || [[ $_value =~ ^(0|[1-9][0-9]*)$ ]] ||
                _fail "--${_option_names[_index]//_/-} must be a whole number, not '$_value'"
            printf -v "${_option_names[_index]}" %s "$_value"
        fi
        shift
    done
    if $_wants_help; then
        _print_help "$_script"
        [[ -n ${_callee:-} ]] || exit 0
        passed_on+=(--help)
    fi
}

_read_options "${BASH_SOURCE[1]}"
_own_options=${#_option_names[@]}
for _file in "${_callee[@]}"; do _read_options "$_file"; done
_parse_options "${BASH_SOURCE[1]}" "$@"
