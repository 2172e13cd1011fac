#!/usr/bin/env bash
# To be sourced: what goes before the commands that do the work, chosen by OMNIROUTER_BACKEND (local or slurm): those of
# stage 2 (job_prefix), training (train_prefix), and others that can use one GPU (gpu_prefix).
# For another cluster, replace a recipe's link to this file by a copy of your own.
# shellcheck disable=SC2034  # used by asr.sh

case ${OMNIROUTER_BACKEND:=local} in
    local)
        job_prefix=
        train_prefix=
        gpu_prefix=
        ;;
    slurm)
        job_prefix="srun --ntasks=1 --cpus-per-task=1 --mem=4G"
        gpus=${ngpu:-1}
        processes=$((gpus > 1 ? gpus : 1)) # of training, each with up to 17 more that load its data (training.workers)
        train_prefix="srun --ntasks=1 --cpus-per-task=$((20 * processes)) --mem=$((64 * processes))G --gres=gpu:$gpus"
        gpu_prefix="srun --ntasks=1 --cpus-per-task=8 --mem=64G --gres=gpu:$((gpus > 1 ? 1 : gpus))"
        ;;
    *)
        echo "error: OMNIROUTER_BACKEND must be local or slurm, not '$OMNIROUTER_BACKEND'" >&2
        exit 1
        ;;
esac
