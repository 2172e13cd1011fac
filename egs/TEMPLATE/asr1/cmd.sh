#!/usr/bin/env bash
# To be sourced: what goes before the commands that do the work, chosen by OMNIROUTER_BACKEND (local or slurm).
# For another cluster, replace a recipe's link to this file by a copy of your own.
# shellcheck disable=SC2034  # used by asr.sh

case ${OMNIROUTER_BACKEND:=local} in
    local)
        job_prefix=
        gpu_prefix=
        ;;
    slurm)
        job_prefix="srun --ntasks=1 --cpus-per-task=1 --mem=4G"
        gpu_prefix="srun --ntasks=1 --cpus-per-task=8 --mem=64G --gres=gpu:${ngpu:-1}"
        ;;
    *)
        echo "error: OMNIROUTER_BACKEND must be local or slurm, not '$OMNIROUTER_BACKEND'" >&2
        exit 1
        ;;
esac
