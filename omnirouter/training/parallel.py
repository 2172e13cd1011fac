"""A model as several processes train it: replicated (DDP) or sharded (FSDP2), and its whole state in either case."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from omnirouter.models.ctc import CtcModel
from omnirouter.models.experts import Experts
from omnirouter.training.config import TrainingConfig
from omnirouter.training.distributed import check_equal_weights, is_first, ranks


def prepare(model: CtcModel, training: TrainingConfig) -> nn.Module:
    """Compile, replicate or shard a model as configured; returns the module to call in training.

    The gradient of what it is called for is the mean over the processes. The model itself stays what is evaluated.
    Raises UserError when the processes have not built the same model.
    """
    check_equal_weights(model)
    if training.compile:
        compile_blocks(model)
    if ranks() == 1:
        return model
    if training.distributed == "fsdp":
        return _sharded(model)
    # Left-out blocks have no gradient, in no process. All have the same weights and buffers by now.
    return DistributedDataParallel(
        model,
        find_unused_parameters=model.encoder.config.layer_drop > 0,
        gradient_as_bucket_view=True,
        broadcast_buffers=False,
        init_sync=False,
    )


def compile_blocks(model: CtcModel) -> None:
    """Let torch.compile make the blocks faster, for all lengths and batch sizes at once; experts run as they are.

    What one expert gets is another number in each batch, for each of which the compiler would begin anew.
    """
    import torch._dynamo  # takes seconds

    # All blocks share what is compiled: for padded, unpadded and single utterances, with and without experts, and once
    # more for each where activations are computed again.
    torch._dynamo.config.recompile_limit = max(32, torch._dynamo.config.recompile_limit)
    for block in model.encoder.blocks:
        if isinstance(block.ffn, Experts):
            block.ffn.forward = torch.compiler.disable(block.ffn.forward)
        block.forward = torch.compile(block.forward, dynamic=True)


@contextmanager
def without_exchange(module: nn.Module, last: bool) -> Iterator[None]:
    """Keep a replica's gradient to itself, unless it is that of the step's last batch.

    A sharded model exchanges each batch's gradient, since it has no room for a whole one.
    """
    if isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield


def whole(state: Any) -> Any:
    """Gather what is sharded in a state, such as a state_dict; all processes call it, the first one has the result.

    The other processes have None where a sharded tensor was.
    """
    return tree_map(_gather, state)


def shard_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Split a whole tensor among the processes as a parameter of the same shape is; nothing if that is not split."""
    if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return tensor


def load_whole(model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Tensor], moments: Any) -> None:
    """Take up states made by `whole`, of a sharded model or not: all processes give the same ones."""
    own = model.state_dict()
    model.load_state_dict({name: shard_like(own[name], tensor) for name, tensor in weights.items()})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    of_parameters = {
        i: {name: shard_like(parameters[i], value) for name, value in values.items()}
        for i, values in moments["state"].items()
    }
    optimizer.load_state_dict({**moments, "state": of_parameters})


def _gather(value: Any) -> Any:
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if is_first() else None


def _sharded(model: CtcModel) -> CtcModel:
    """Shard block by block; what is left, the routers that several blocks share too, belongs to the whole model."""
    mesh = init_device_mesh(next(model.parameters()).device.type, (ranks(),))
    for block in model.encoder.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in (model, *model.encoder.blocks):
        # Buffers made in a validation, in inference mode, could not be used in training afterwards.
        module.unshard()
        module.reshard()
    return model
