"""The networks in one checkpoint: what their names begin with, and which of them is meant."""

from collections.abc import Callable
from typing import Any

from keras_deeplab._helpers import limits

_FEWEST = 10  # arrays of a network


def networks(arrays: Any, plan_of: Callable[..., Any]) -> Any:
    """`{name: array}` to `{what its names begin with: (plan, its arrays)}` of each network that is recognised.

    Trainings keep a moving average (`ema_model.`) or a teacher beside the network, with the same names behind another
    beginning. A network whose names begin with nothing may stand beside such a one.

    Args:
        plan_of: maps `{name: array}` to a `Plan`, None where it is nobody's; may raise ValueError.
    """
    whole = _one(arrays, plan_of)
    if whole is None:
        begins = {name.partition(".")[0] for name in arrays}
        return _of_scopes(arrays, plan_of) if len(begins) > 1 else {}
    prefix, plan, inner = whole
    unknown = plan.unknown(inner)
    others = _of_scopes({name: inner[name] for name in unknown}, plan_of) if len(unknown) >= _FEWEST else {}
    if not others:
        return {prefix: (plan, inner)}
    own = {name: array for name, array in inner.items() if not name.startswith(tuple(others))}
    return {prefix: (plan, own), **{prefix + scope: each for scope, each in others.items()}}


def chosen(found: Any, arrays: Any, prefix: str | None, label: str) -> Any:
    """Of what `networks` found the one that is meant, as (plan, arrays).

    Args:
        prefix: what its names begin with, with or without the last dot; None where there is one.

    Raises:
        ValueError: there are several, or other arrays beside, and nothing says which; or none of that beginning.
    """
    ways = " or ".join(f"prefix={scope!r}" for scope in found)
    if prefix is not None:
        begin = prefix if prefix in ("", *found) else f"{prefix.rstrip('.')}."
        fitting = [scope for scope in found if scope == begin or (begin and scope.startswith(begin))]
        if len(fitting) != 1:
            raise ValueError(f"{label} holds no network whose names begin with {prefix!r}: give {ways}.")
        return found[fitting[0]]
    if len(found) > 1:
        listed = ", ".join(f"{scope or 'no beginning'!r} ({len(each)} arrays)" for scope, (_, each) in found.items())
        raise ValueError(
            f"{label} holds {len(found)} networks, which compute different things; their names begin with {listed}. "
            f"Say which: {ways} (--prefix)."
        )
    ((scope, (plan, inner)),) = found.items()
    left = {name.partition(".")[0] for name in arrays if not name.startswith(scope)}
    if left:
        raise ValueError(
            f"{label} holds a network whose names begin with {scope!r}, and arrays of {', '.join(sorted(left)[:8])}, "
            f"of which nothing is known: prefix={scope!r} (--prefix) loads it without them."
        )
    return plan, inner


def _one(arrays, plan_of):
    """(prefix, plan, arrays) of the one network that all names are of; None."""
    for prefix in _prefixes(arrays):
        inner = {name[len(prefix) :]: array for name, array in arrays.items()} if prefix else arrays
        plan = plan_of(inner)
        if plan is not None:
            return prefix, plan, inner
    return None


def _of_scopes(arrays, plan_of):
    """As `networks`, of the names under each first part by themselves."""
    scopes = {}
    for name, array in arrays.items():
        scope, dot, _ = name.partition(".")
        if dot:
            scopes.setdefault(f"{scope}.", {})[name] = array
    found = {}
    for scope, each in scopes.items():
        if len(each) < _FEWEST:
            continue
        one = _one({name[len(scope) :]: array for name, array in each.items()}, plan_of)
        if one is not None:
            prefix, plan, inner = one
            found[scope + prefix] = plan, inner
    return found


def _prefixes(arrays):
    """What all names may begin with, from nothing to what they share, in whole parts.

    >>> _prefixes({"model.net.conv.weight": 0, "model.net.conv.bias": 0})
    ['', 'model.', 'model.net.', 'model.net.conv.']
    """
    prefixes = [""]
    for parts in zip(*(name.split(".")[:-1] for name in arrays), strict=False):
        if len(set(parts)) > 1 or len(prefixes) > limits.PREFIX_PARTS:
            break
        prefixes.append(f"{prefixes[-1]}{parts[0]}.")
    return prefixes
