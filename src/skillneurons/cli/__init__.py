"""The command line: a thin skin over the public face.

    skillneurons demo                                   the whole story on the embedded miniature, offline
    skillneurons find MODEL TASK --trials 5 --out runs/sst2
    skillneurons neuron RUN LAYER NEURON                what a neuron does: its texts, its labels, token by token
    skillneurons compare RUN RUN...                     how alike runs of one model rank its neurons
    skillneurons perturb RUN                            accuracy against the share of neurons perturbed
    skillneurons steer RUN                              skill neurons pushed along their sign
    skillneurons words RUN                              the words that belong to the best neurons
    skillneurons origins MODEL TASK                     tuned, random and hard prompts, a random model
    skillneurons correlate RUN RUN...                   how alike the orders of tasks are, layer by layer
    skillneurons importance RUN RUN...                  whose neurons each task needs
    skillneurons label-words MODEL TASK                 the same neurons under other label words?
    skillneurons pooled | choices | selectivity RUN     the paper's other ways to score a neuron
    skillneurons evidence MODEL TASK TASK...            every experiment, side by side, as a study
    skillneurons prune RUN                              a smaller model: the skill neurons stay, the others are frozen
    skillneurons predict FOLDER < lines                 labels by a pruned model
    skillneurons export FOLDER --int8                   a pruned model as ONNX
    skillneurons bench FOLDER                           how fast a pruned model is
    skillneurons transfer RUN RUN...                    which task's prompts to start from
    skillneurons study FILE                             many findings and experiments as one resumable plan
    skillneurons store ls | verify | gc                 what studies have kept
    skillneurons report RUN|STUDY                       the page of a run or a study, anew
    skillneurons inspect MODEL                          where the neurons are, how many, what scoring will cost

Exit status: 0 done, 1 a fault of the program, 2 the user's mistake, 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import tyro
from pydantic import ValidationError
from rich.console import Console

from ..allocator import keep_freed_memory
from ..config import explain
from ..errors import SkillNeuronsError
from ..progress import quiet
from ..tuning.config import PRESETS, TuneConfig
from .evidence import Origins, Perturb, Steer, Words
from .experiments import Choices, Correlate, Importance, LabelWords, Pooled, Selectivity
from .finding import Compare, Demo, Find, Inspect, Neuron
from .pruning import Predict, Prune
from .report import Report
from .shipping import Bench, Export
from .study import Everything, Store, Study
from .transfer import Transfer

DESCRIPTION = "Find the neurons of a pretrained Transformer that carry the skill a task needs. Begin with: demo."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    keep_freed_memory()
    try:
        command = _parse(given)
        quiet(getattr(command, "quiet", False))
        command.run()
    except SkillNeuronsError as error:
        Console(stderr=True, highlight=False).print(f"skillneurons: {error}", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        Console(stderr=True).print("\nskillneurons: stopped; the same command goes on where this one was.")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


def _parse(arguments: list[str]) -> Any:
    named = [after for before, after in pairwise(arguments) if before == "--preset"]
    named += [word.removeprefix("--preset=") for word in arguments if word.startswith("--preset=")]
    preset = named[-1] if named and named[-1] in PRESETS else "paper"
    options = TuneConfig.preset(preset)
    find = Find(tyro.MISSING, tyro.MISSING, config=options)
    origins = Origins(tyro.MISSING, tyro.MISSING, config=options)
    label_words = LabelWords(tyro.MISSING, tyro.MISSING, config=options)
    everything = Everything(tyro.MISSING, tyro.MISSING, config=options)
    commands = (
        Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Find, tyro.conf.subcommand("find", default=find)]
        | Annotated[Neuron, tyro.conf.subcommand("neuron")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Perturb, tyro.conf.subcommand("perturb")]
        | Annotated[Steer, tyro.conf.subcommand("steer")]
        | Annotated[Words, tyro.conf.subcommand("words")]
        | Annotated[Origins, tyro.conf.subcommand("origins", default=origins)]
        | Annotated[Correlate, tyro.conf.subcommand("correlate")]
        | Annotated[Importance, tyro.conf.subcommand("importance")]
        | Annotated[LabelWords, tyro.conf.subcommand("label-words", default=label_words)]
        | Annotated[Pooled, tyro.conf.subcommand("pooled")]
        | Annotated[Choices, tyro.conf.subcommand("choices")]
        | Annotated[Selectivity, tyro.conf.subcommand("selectivity")]
        | Annotated[Everything, tyro.conf.subcommand("evidence", default=everything)]
        | Annotated[Prune, tyro.conf.subcommand("prune")]
        | Annotated[Predict, tyro.conf.subcommand("predict")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Bench, tyro.conf.subcommand("bench")]
        | Annotated[Transfer, tyro.conf.subcommand("transfer")]
        | Annotated[Study, tyro.conf.subcommand("study")]
        | Annotated[Store, tyro.conf.subcommand("store")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    )
    try:
        return tyro.cli(commands, args=arguments, prog="skillneurons", description=DESCRIPTION)
    except ValidationError as error:
        raise explain(error, "these options do not fit") from None
