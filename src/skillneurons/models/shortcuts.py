"""Passes that stop where nothing more is read: exact, for every token is computed from those before it alone.

    with narrowed(modules, calls=1, token=0):      # the last FFN at the answer token alone
        model(...)
    with stopped(module, calls=1):                 # nothing after the last layer's neurons
        model(...)

Between an FFN and the head nothing mixes tokens. Given one token, the last FFN returns one, which the residual stream
takes on at all of them: right at that token, meaningless at the others. `calls` tells the last layer of modules that
several layers share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from .placement import Token


class _Enough(Exception):
    """Everything that is read has been computed."""


@contextlib.contextmanager
def narrowed(entrances: Sequence[nn.Module], calls: int, token: Token) -> Iterator[None]:
    """The last FFN's first linear layers (up-projection, gate) see `token` alone in the one pass of the block."""
    counts = [0] * len(entrances)

    def enter(number: int, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        counts[number] += 1
        given: Tensor = args[0]
        return (given[:, token, None], *args[1:]) if counts[number] == calls else None

    with contextlib.ExitStack() as hooks:
        for number, module in enumerate(entrances):
            hook = module.register_forward_pre_hook(lambda _module, args, number=number: enter(number, args))
            hooks.callback(hook.remove)
        yield


@contextlib.contextmanager
def stopped(module: nn.Module, calls: int) -> Iterator[None]:
    """The block's pass ends where `module` is called the last time, after all that watch its input."""
    count = 0

    def enter(_module: nn.Module, _args: object) -> None:
        nonlocal count
        count += 1
        if count == calls:
            raise _Enough

    hook = module.register_forward_pre_hook(enter)
    try:
        with contextlib.suppress(_Enough):
            yield
    finally:
        hook.remove()
