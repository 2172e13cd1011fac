"""Train a CTC model (stage 4), or go on with an unfinished training of the same experiment directory.

With several GPUs, one process for each, on one machine, or on M machines with the same commands on each of them:

    torchrun --standalone --nproc-per-node N -m omnirouter.bin.train ...

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nnodes M --nproc-per-node N --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m omnirouter.bin.train ...

HOST is one of the machines; all have to see the data and the experiment directory under the same paths. With
--max-restarts R, torchrun starts training again from its last checkpoint when a process has died; the variable keeps it
from giving the new processes the addresses of the dead ones.

What run.sh adds by itself has to be given here, --variant above all: it chooses the schedule for the part of a corpus,
such as small of Libriheavy or 100 of LibriSpeech; without it, training takes the schedule of the whole.
"""

import argparse
from pathlib import Path

from torch.distributed import is_torchelastic_launched
from torch.distributed.elastic.multiprocessing.errors import record

from omnirouter.bin._main import run
from omnirouter.data.fields import split_words
from omnirouter.data.files import named_folder
from omnirouter.data.jobs import bind_to_parent
from omnirouter.training.config import load_config
from omnirouter.training.devices import choose_device
from omnirouter.training.distributed import process_group
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train


def main() -> None:
    """Parse arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="YAML configuration")
    parser.add_argument("--variant", default="", help="name of one of its variants, such as a schedule for less speech")
    parser.add_argument("--set", default="", help="overrides, such as 'model.experts=2 optim.lr=1e-3'")
    parser.add_argument("--train", type=Path, required=True, help="data directory with features to train on")
    parser.add_argument("--dev", type=named_folder, required=True, help="data directory with features to validate on")
    parser.add_argument("--lang", type=Path, required=True, help="language directory of stage 3")
    parser.add_argument("--lang-text", type=Path, help="transcripts; one that was learned from others is refused")
    parser.add_argument("--exp", type=named_folder, required=True, help="experiment directory")
    parser.add_argument("--init", type=Path, help="experiment directory whose weights to start from")
    parser.add_argument(
        "--restart", action="store_true", help="delete the experiment, but for leave_out, and begin anew"
    )
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs of each process (default: one if there is one)")
    args = parser.parse_args()
    if is_torchelastic_launched():
        bind_to_parent()  # torchrun does not end its processes when it is itself killed
    config = load_config(args.config, split_words(args.set, "--set"), args.variant)
    inputs = Inputs(args.train, args.dev, args.lang, args.init, args.allow_pipes, args.lang_text)
    device = choose_device(args.ngpu)
    with process_group(device):
        train(args.exp, config, inputs, device, args.restart)


if __name__ == "__main__":
    run(record(main))  # for torchrun, which shows the error of the process that failed first
