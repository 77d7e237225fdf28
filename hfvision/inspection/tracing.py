"""A model's forward pass as operations, traced by `torch.export`, each with the modules around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import fx, nn
from transformers import PreTrainedModel


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts every module into evaluation mode and back as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def call_arguments(model: nn.Module, pixel_values: torch.Tensor) -> tuple[tuple, dict[str, torch.Tensor]]:
    """How `model` takes the images: by name if it is a transformers model, else as its first argument."""
    return ((), {"pixel_values": pixel_values}) if isinstance(model, PreTrainedModel) else ((pixel_values,), {})


class Trace:
    """The exported operations of a model's forward pass that its output depends on.

    Attributes:
        nodes: operations computed from the images, in order; the first is the input itself.
        sources: the operations of `nodes` that each of them reads.
        outputs: those of them that the model returns.
        parameters: the names of the parameters each operation uses, directly or through operations on weights.
        sizes: numbers of elements of all parameters by name.
    """

    def __init__(self, model: nn.Module, pixel_values: torch.Tensor):
        arguments, named = call_arguments(model, pixel_values)
        try:
            with evaluation_mode(model), torch.no_grad():
                program = torch.export.export(model, arguments, named, strict=False)
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(f"{type(model).__name__} cannot be traced by torch.export: {reason.strip()}") from error
        self.model = model
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters(remove_duplicate=False)}
        signature = program.graph_signature
        weights = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.sizes = sizes
        self.outputs = [node for node in program.graph.output_node().all_input_nodes if node.op != "get_attr"]
        live = set(self.outputs)
        for node in reversed(program.graph.nodes):
            if node in live:
                live.update(node.all_input_nodes)
        self.sources: dict[fx.Node, list[fx.Node]] = {}
        self.parameters: dict[fx.Node, set[str]] = {}
        for node in program.graph.nodes:
            sources = [source for source in node.all_input_nodes if source in self.sources]
            if node.op == "placeholder" and node.name in signature.user_inputs:
                if isinstance(node.meta.get("val"), torch.Tensor):
                    self.sources[node] = []
            elif node in live and node.op == "call_function" and sources:
                self.sources[node] = sources
            own = {weights[node.name]} & sizes.keys() if node.name in weights else set()
            others = (self.parameters[n] for n in node.all_input_nodes if n not in self.sources)
            self.parameters[node] = own.union(*others)
        self.nodes = list(self.sources)
        self.outputs = [node for node in self.outputs if node in self.sources]

    def scopes(self, node: fx.Node) -> list["Scope"]:
        """The modules around an operation, from the outside in."""
        stack = []
        for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            if "parametrizations" in path.split("."):
                break
            stack.append(Scope(key, path, self.model.get_submodule(path)))
        return stack


class Scope(NamedTuple):
    """A call of a module; `key` differs from call to call."""

    key: str
    path: str
    module: nn.Module


def is_leaf(module: nn.Module) -> bool:
    """Whether a module holds no other modules (parametrizations do not count)."""
    return all(name == "parametrizations" for name, _ in module.named_children())
