"""How many multiplications a pass takes: what speed comes to where nothing but arithmetic counts.

    multiplications(lambda: model.answer(batch))          # of one sample, if the batch is of one

Those of all matrix products that run are counted, one by one, as torch is given them; norms, activations and sums are
left out. For n tokens of a masked model of L layers, hidden size d, FFNs of w_1 to w_L neurons and c constants among
keys and values (a prompt frozen into them), read at the answer token by a head for k words, they are

    L (4 n d^2 + 2 n (n + c) d) - 2 (n - 1) d^2 + 2 d (n (w_1 + ... + w_{L-1}) + w_L) + d^2 + d k

attention, FFNs and head; of the last layer, queries, outputs and FFN are of the answer token alone. Gates, other heads
and other layouts have their own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def multiplications(run: Callable[[], object]) -> int:
    """The multiplications of all matrix products while `run` runs."""
    # torch's counter does not know of the CPU's own attention; the plain one is made of matrix products
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2  # it counts a multiplication and an addition
