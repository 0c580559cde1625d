"""Which operators of TensorFlow reach beyond a model's tensors: to files, the network, Python, other processes.

A graph is a program. Most of its operators compute; with these, whoever runs a model that somebody else made lets it
write and read files as the user could.
"""

import re
from collections.abc import Iterable

# Of TensorFlow 2.21's operators, those that take a file, an address or code, by their names. A test goes through all
# that are registered, and compares with what their arguments are called.
_OUTSIDE = re.compile(
    r"Dataset|Iterator|Reader|Snapshot|"  # input pipelines: a network has none
    r"File|^Save|Saver?$|^Restore|Restore(V2)?$|Checkpoint|^LoadAndRemap|^GenerateVocab|^DumpTensor|^ImmutableConst|"
    r"^InitializeTRTResource|^(En|De)codeProto|^RecordInput|^Skipgram|^FixedUnigramCandidateSampler|"
    r"^Write\w*Summary|Summary\w*Writer|^ImportEvent|^Debug|^Copy(Host)?$|"
    r"PyFunc|^XlaCustomCall|^Rpc|^RemoteCall|^RemoteFusedGraph|^Collective|^Abort$"
)
# What reads a model's own variables, where it is asked to restore them.
_RESTORING = re.compile(r"^Restore(V2)?$|^ShardedFile")


def is_outside(operator: str) -> bool:
    """Whether an operator of TensorFlow, by its name, reaches beyond tensors.

    >>> [is_outside(name) for name in ("Conv2D", "WriteFile", "PyFunc", "ReadVariableOp")]
    [False, True, True, False]
    """
    return _OUTSIDE.search(operator) is not None


def outside_of_saved_model(content: bytes) -> set[str]:
    """The operators of a SavedModel that reach beyond tensors and can run when it is loaded or called, by their names.

    Those that only save the model's variables again, which every SavedModel has, are not among them, nor the one that
    reads them.

    Args:
        content: of `saved_model.pb`.

    Raises:
        ValueError: it is none.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        model = saved_model_pb2.SavedModel.FromString(content)
    except DecodeError as error:
        raise ValueError(f"it is no SavedModel, or a damaged one: {error}") from error
    found: set[str] = set()
    for graph in model.meta_graphs:
        found |= _outside_of(graph)
    return found


def _outside_of(graph):
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}

    def before(names):
        """The nodes that those of these names need, themselves included."""
        needed, ahead = {}, [_node(name) for name in names]
        while ahead:
            name = ahead.pop()
            if name in nodes and name not in needed:
                needed[name] = nodes[name]
                ahead += map(_node, nodes[name].input)
        return needed

    answers = [
        tensor.name
        for signature in graph.signature_def.values()
        for tensor in (*signature.outputs.values(), *signature.inputs.values())
    ]
    saving = before([graph.saver_def.save_tensor_name])
    restoring = before([graph.saver_def.restore_op_name])
    running = {name: node for name, node in nodes.items() if name not in saving and name not in restoring}
    running |= before(answers)
    # Not the library's other functions: among them is what saves.
    called = [*graph.object_graph_def.concrete_functions]
    outside = {name for name in _names(running.values(), called, functions) if name}
    outside |= {name for name in _names(restoring.values(), [], functions) if not _RESTORING.search(name)}
    return outside


def _node(tensor):
    """The name of the node that a tensor, or a control input, is of: `^a` and `a:1` are of a."""
    return tensor.removeprefix("^").partition(":")[0]


def _names(nodes, called, functions):
    """The names of those operators, in nodes and in all functions that they call, which reach beyond tensors."""
    found, seen, ahead = set(), set(), list(called)

    def look(nodes):
        for node in nodes:
            if is_outside(node.op) or _prints_to_a_file(node):
                found.add(node.op)
            ahead.append(node.op)  # graphs of TensorFlow 1 call a function by its name
            for value in node.attr.values():
                ahead.extend([value.func.name] if value.HasField("func") else [])
                ahead.extend(function.name for function in value.list.func)

    look(nodes)
    while ahead:
        name = ahead.pop()
        if name in functions and name not in seen:
            seen.add(name)
            look(functions[name])
    return found


def _prints_to_a_file(node):
    return node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:")


def refuse(name: str, operators: Iterable[str]) -> None:
    """Raises ValueError where a model has operators that reach beyond its tensors."""
    found = sorted(set(operators))
    if found:
        raise ValueError(
            f"{name} holds operators that reach beyond it, to files, the network or Python: {', '.join(found)}. "
            "Whoever runs it lets it do so: if you made it, or trust who did, safe_mode=False (--no-safe-mode) runs it"
        )
