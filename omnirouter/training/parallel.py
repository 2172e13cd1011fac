"""A model as several processes train it: replicated (DDP) or sharded (FSDP2), and its whole state in either case."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from omnirouter.models.ctc import CtcModel
from omnirouter.models.experts import Experts
from omnirouter.training.config import TrainingConfig
from omnirouter.training.distributed import is_first, ranks


def prepare(model: CtcModel, training: TrainingConfig, device: torch.device) -> nn.Module:
    """Bring a model to a device, compiled, replicated or sharded as configured; returns the module to call in training.

    All processes give the same model. The gradient of what it is called for is the mean over the processes. The model
    itself stays what is evaluated.
    """
    if training.compile:
        compile_blocks(model)
    if ranks() > 1 and training.distributed == "fsdp":
        return _sharded(model, device)
    model.to(device)
    if ranks() == 1:
        return model
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


def load_moments(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimizer's state made by `whole`, of a sharded model or not: all processes give the same one.

    Tensors go to the device one by one, and of a sharded model only this process's share stays there.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    of_parameters = {
        i: {name: _share_like(parameters[i], value) for name, value in values.items()}
        for i, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": of_parameters})


def clear_gradient(model: nn.Module) -> None:
    """Drop the gradient; of a sharded model, whose root an evaluation leaves gathered, that of the shares."""
    if isinstance(model, FSDPModule):
        model.reshard()
    model.zero_grad(set_to_none=True)


def _share_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Copy a whole tensor to where a parameter is; this process's share, if the parameter of that shape is sharded."""
    if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
        shares = distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)
        return shares.clone()  # a view would keep all of the tensor
    return tensor.to(parameter.device, copy=True)


def _gather(value: Any) -> Any:
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if is_first() else None


def _sharded(model: CtcModel, device: torch.device) -> CtcModel:
    """Shard block by block; what is left, the routers that several blocks share too, belongs to the whole model.

    A block's weights come to the device when it is sharded, so that it never holds all of them.
    """
    mesh = init_device_mesh(device.type, (ranks(),))
    for block in model.encoder.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in (model, *model.encoder.blocks):
        # Buffers made in a validation, in inference mode, could not be used in training afterwards.
        module.unshard()
        module.reshard()
    return model
