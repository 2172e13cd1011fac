#!/usr/bin/env bash
# Compares encoders. Trains each of them with each number of experts, each size and each seed, decodes, scores and
# analyses; then writes exp/COMPARE.md, one table with intervals and significance, and figures in exp/compare/, drawn of
# the first seeds.
#
# Every experiment is a job of its own, exp/<name> with the log exp/compare/<name>.log, and whatever is finished is passed
# over: the same command goes on after any interruption. A second comparison, of other settings, takes a --name, which
# all that it makes then bears. --jobs N runs several at a time; with OMNIROUTER_BACKEND=slurm each takes a place on the
# cluster by itself (cmd.sh). Where jobs are submitted otherwise, say as an array:
#
#     ./run.sh --stop-stage 3; ./run_compare.sh --list
#     sbatch --array=1-9 --wrap './run_compare.sh --job $SLURM_ARRAY_TASK_ID'
#
# and the command without --job, after them, makes the table.
#
set -euo pipefail
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
_callee=("$here/asr.sh")
! grep -q '^# Options' "$here/run.sh" || _callee=("$here/run.sh" "$here/asr.sh") # a recipe with options of its own

# Options
encoders="dense switch omnirouter" # configurations, by their names in conf/; the first is the baseline
experts=            # numbers of experts, "2 4 8", of all but configurations called dense…; by default the configuration's
sizes=              # "small: model.dim=96; large: model.dim=192 model.ffn_dim=768": names, and changes to each configuration
seeds=              # seeds of the training, "1 2 3"; by default the configuration's
set=                # changes to every configuration: "key=value key=value"
name=               # of this comparison: it makes exp/NAME_dense …, exp/COMPARE_NAME.md, exp/compare_NAME/; none by default
jobs=1              # experiments at a time, which share out this machine's cores, and its GPUs or those of CUDA_VISIBLE_DEVICES
list=false          # only list the experiments
job=                # only this experiment, by its number in the list, and no table
skip_fig3=false     # leave out Fig. 3, for which each test set is decoded 16 times with tokens sent to random experts
headline=raw        # word error rate of the table: raw, or whisper (by its English normaliser)
# End of options

log() { echo "[$(date +%T)] $*"; }
die() { echo "error: $*" >&2 && exit 1; }
add() { # adds the experiments of one column: encoder, number of experts, name of the size, changes
    local column="" experiment seed words
    for seed in ${seeds:-1}; do
        experiment=${name:+${name}_}$1${2:+_$2}${3:+_$3}
        [[ $seed == 1 ]] || experiment+=_seed$seed
        names+=("$experiment")
        configs+=("$here/conf/$1.yaml")
        read -ra words <<<"$set $4 ${2:+model.experts=$2} ${seeds:+training.seed=$seed}"
        changes+=("${words[*]}")
        column+=${column:+,}exp/$experiment
    done
    columns+=("$column")
    drawn+=("${column%%,*}")
}
share_gpus() { # sets ${COMPARE_GPUS} to the GPUs of each of the jobs that run at a time, as "0,1 2,3", if there are any
    local gpus each=${ngpu:-1} together=$((jobs < ${#names[@]} ? jobs : ${#names[@]})) i
    [[ $jobs != 1 && $each != 0 && -z $gpu_prefix ]] || return 0 # what has a prefix is done elsewhere
    if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES/#-*/}" # -1 hides them all
    else
        read -ra gpus <<<"$(python -c 'import torch; print(*range(torch.cuda.device_count()))')"
    fi
    ((${#gpus[@]} > 0)) || return 0
    ((together * each <= ${#gpus[@]})) ||
        die "GPUs for $together jobs, $each each: there are only ${#gpus[@]} (${gpus[*]}); lower --jobs or --ngpu, compute" \
            "on CPUs by --ngpu 0, or put jobs together by naming a GPU more than once, CUDA_VISIBLE_DEVICES=0,0"
    local IFS=,
    for ((i = 0; i < together; i++)); do COMPARE_GPUS+="${gpus[*]:i*each:each} "; done
}

# shellcheck source=egs/TEMPLATE/asr1/utils/parse_options.sh
. "$here/utils/parse_options.sh"
ngpu=
for option in "${passed_on[@]}"; do
    case $option in
        --help) exec "$here/run.sh" --help ;;
        --ngpu=*) ngpu=${option#*=} ;;
    esac
    [[ ! $option =~ ^--(stage|stop[-_]stage|config|init)= ]] ||
        die "${option%%=*}: each experiment has its own; choose by --encoders, --experts, --sizes, --seeds and --set"
done
[[ $headline == raw || $headline == whisper ]] || die "--headline must be raw or whisper, not '$headline'"
[[ $name =~ ^[A-Za-z0-9_-]*$ ]] || die "--name: '$name' is no name of letters, digits, - and _"
[[ "$experts $seeds" =~ ^[0-9\ ]*$ ]] || die "--experts and --seeds are numbers with spaces between"
[[ $ngpu =~ ^(0|[1-9][0-9]*)?$ ]] || die "--ngpu must be a number of GPUs, not '$ngpu'"
((jobs > 0)) || die "--jobs must be at least 1"

names=() configs=() changes=() columns=() drawn=()
IFS=';' read -ra sized <<<"$sizes"
for size in "${sized[@]:-}"; do
    [[ -z $size ]] || [[ $size == *:* ]] || die "--sizes: '$size' is not as in 'small: model.dim=96'"
    read -r size_name <<<"${size%%:*}"
    [[ -z $size ]] || [[ $size_name =~ ^[A-Za-z0-9-]+$ ]] || die "--sizes: '$size_name' is no name of letters and digits"
    ((${#columns[@]} == 0)) || columns+=(--size)
    for encoder in $encoders; do
        [[ -f $here/conf/$encoder.yaml ]] || die "--encoders: no conf/$encoder.yaml in $here"
        if [[ $encoder == dense* || -z $experts ]]; then
            add "$encoder" "" "$size_name" "${size#*:}"
        else
            for number in $experts; do add "$encoder" "$number" "$size_name" "${size#*:}"; done
        fi
    done
done
((${#names[@]} > 0)) || die "--encoders: name at least one"
repeated=$(printf '%s\n' "${names[@]}" | sort | uniq -d | tr '\n' ' ')
[[ -z $repeated ]] || die "given twice: $repeated"

if $list; then
    for i in "${!names[@]}"; do echo "$((i + 1)) ${names[i]}: conf/${configs[i]##*/} ${changes[i]}"; done
    exit
fi

run_experiment() { # stages 4 to 7 of the experiment number $1; where it is drawn, with Fig. 3
    local fig3=()
    $skip_fig3 || [[ " ${drawn[*]} " != *" exp/${names[$1]} "* ]] || fig3=(--random-routing)
    "$here/run.sh" "${passed_on[@]}" "${fig3[@]}" --headline "$headline" --stage 4 --name "${names[$1]}" \
        --config "${configs[$1]}" --set="${changes[$1]}"
}

# shellcheck source=egs/TEMPLATE/asr1/path.sh
. "$here/path.sh"
# shellcheck source=egs/TEMPLATE/asr1/cmd.sh
. "$here/cmd.sh"
made=exp/compare${name:+_$name}
mkdir -p "$here/$made"
shopt -s nullglob
if [[ -n $job ]]; then
    [[ $job =~ ^[1-9][0-9]*$ && $job -le ${#names[@]} ]] || die "--job $job: there are 1 to ${#names[@]} (--list)"
    experiment=${names[job - 1]} log_file=$made/${names[job - 1]}.log
    if [[ -n ${COMPARE_GPUS:-} ]]; then # of the command that has started this job
        read -ra shares <<<"$COMPARE_GPUS"
        export CUDA_VISIBLE_DEVICES=${shares[COMPARE_SLOT]}
    fi
    log "$job of ${#names[@]}: $experiment begins, or goes on${COMPARE_GPUS:+ on GPU $CUDA_VISIBLE_DEVICES} ($log_file)"
    if ! run_experiment $((job - 1)) >"$here/$log_file" 2>&1; then
        tail -n 20 "$here/$log_file" >&2
        die "$experiment failed; above is the end of $log_file"
    fi
    log "$job of ${#names[@]}: $experiment is finished"
    exit
fi

export COMPARE_GPUS=
share_gpus
"$here/run.sh" "${passed_on[@]}" --stop-stage 3
((jobs == 1)) || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(nproc) + jobs - 1) / jobs))}
seq ${#names[@]} | xargs -P "$jobs" -n 1 --process-slot-var=COMPARE_SLOT "$here/compare.sh" "$@" --job ||
    die "not all experiments are finished; the same command goes on with those that are not"

cd "$here"
rm -rf "$made"/figures* # an earlier call's may be of other experiments
python -m omnirouter.bin.compare_table "${columns[@]}" --headline "$headline" --output "exp/COMPARE${name:+_$name}.md"
routed=0 analyses=() # experiments with a router; their analysed sets
for exp in "${drawn[@]}"; do
    sets_of=("$exp"/routing_*)
    ((${#sets_of[@]} == 0)) || routed=$((routed + 1))
    analyses+=("${sets_of[@]##*/routing_}")
done
((routed > 0)) || python -m omnirouter.bin.figures "${drawn[@]}" --output "$made/figures"
while read -r analysed dataset; do
    [[ -n $dataset && $analysed == "$routed" ]] || continue # somebody has analysed another set of some of them
    python -m omnirouter.bin.figures "${drawn[@]}" --set "$dataset" --output "$made/figures_$dataset"
done < <(printf '%s\n' "${analyses[@]}" | sort | uniq -c)
log "exp/COMPARE${name:+_$name}.md and $made/ are written"
