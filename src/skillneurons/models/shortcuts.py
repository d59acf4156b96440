"""Passes that stop where nothing more is read: exact, for every token is computed from those before it alone.

    with narrowed(modules, calls=1, token=0):      # the last FFN at the answer token alone
        model(...)
    with narrowed([query, output], calls=1, token=0, spread=True):     # the last attention's query and output as well
        model(...)
    with stopped(module, calls=1):                 # nothing after the last layer's neurons
        model(...)

Between an FFN and the head nothing mixes tokens. Given one token, the last FFN returns one, which the residual stream
takes on at all of them: right at that token, meaningless at the others. The same holds for the last attention's query
and output projections, whose rows are one token's each. `calls` tells the last layer of modules that several share.
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
def narrowed(modules: Sequence[nn.Module], calls: int, token: Token, spread: bool = False) -> Iterator[None]:
    """Linear layers see `token` alone in the one pass of the block; `spread`: what they give stands at every token."""
    counts, tokens = [0] * len(modules), [0] * len(modules)

    def enter(number: int, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        counts[number] += 1
        given: Tensor = args[0]
        tokens[number] = given.shape[1]
        return (given[:, token, None], *args[1:]) if counts[number] == calls else None

    def leave(number: int, given: Tensor) -> Tensor | None:
        return given.expand(-1, tokens[number], -1) if spread and counts[number] == calls else None

    with contextlib.ExitStack() as hooks:
        for number, module in enumerate(modules):
            for hook in (
                module.register_forward_pre_hook(lambda _module, args, number=number: enter(number, args)),
                module.register_forward_hook(lambda _module, _args, given, number=number: leave(number, given)),
            ):
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
