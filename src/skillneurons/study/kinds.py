"""What each kind of step does, and the version of its results.

    KINDS["score"].does(work)               # writes its output into work.out
    VERSIONS["score"]

Whoever changes what a kind gives raises its version, and steps of this kind and all that rest on them are done anew.
A step is a pure function of its configuration, the model, its tasks and its inputs: nothing else may reach its output,
neither times nor places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..evidence.choices import choices
from ..evidence.config import SteerConfig
from ..evidence.correlation import correlate
from ..evidence.pooled import pooled
from ..evidence.selectivity import selectivity
from ..evidence.steering import steer
from ..evidence.words import WordConfig, words
from ..finding.nulls.config import NullConfig
from ..finding.nulls.nulls import nulls
from ..pruning.config import PruneConfig
from ..pruning.prune import prune
from ..transferring.config import TransferConfig
from ..transferring.transfer import transfer
from .curves import curves, importance, points, tune_method
from .drawing import draw
from .findings import by_origin, finding, other_words, rank, score, tune
from .work import Work


@dataclass(frozen=True)
class Kind:
    """A kind of step: the version of its results, and the function that makes them."""

    version: int
    does: Callable[[Work], None]


def held(work: Work) -> None:
    """A finding beside its nulls; what takes long is kept as it goes."""
    nulls(work.model, replace(work.skill(), folder=work.state), config=work.options(NullConfig)).save(work.out)


KINDS: Mapping[str, Kind] = {
    "tune": Kind(1, tune),
    "score": Kind(1, score),
    "rank": Kind(1, rank),
    "nulls": Kind(1, held),
    "points": Kind(1, points),
    "curves": Kind(1, curves),
    "finding": Kind(1, finding),
    "tune-method": Kind(1, tune_method),
    "importance": Kind(1, importance),
    "correlation": Kind(1, lambda work: correlate(*work.skills()).save(work.out)),
    "selectivity": Kind(1, lambda work: selectivity(work.model, work.skill()).save(work.out)),
    "pooled": Kind(1, lambda work: pooled(work.model, work.skill()).save(work.out)),
    "choices": Kind(1, lambda work: choices(work.skill()).save(work.out)),
    "words": Kind(
        1, lambda work: words(work.model, work.skill(), config=work.options(WordConfig)).save(work.out)
    ),
    "label-words": Kind(1, other_words),
    "origins": Kind(1, by_origin),
    "steering": Kind(1, lambda work: steer(work.model, work.skill(), config=work.options(SteerConfig)).save(work.out)),
    "prune": Kind(
        1,
        lambda work: prune(
            work.model, work.skill(), config=work.options(PruneConfig), out=work.state
        ).costs.save(work.out),
    ),
    "transfer": Kind(
        1,
        lambda work: transfer(
            work.model, *work.skills(), config=work.options(TransferConfig), out=work.state
        ).save(work.out),
    ),
    "draw": Kind(3, draw),
}  # fmt: skip
VERSIONS: Mapping[str, int] = {name: kind.version for name, kind in KINDS.items()}
