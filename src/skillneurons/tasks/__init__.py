"""What is asked: tasks with their labels, label words, subtasks and splits.

    from skillneurons.tasks import Task, load_task

`task` is the task itself and `split` its samples; `spec` and `taskfile` are its written form; `sources` and `memory`
say where samples come from, `samples` checks them; `catalogue` has the paper's seven, `miniature` the embedded
language, `load` finds any of them; `tokens` keeps the tokenised texts.
"""

from __future__ import annotations

from .catalogue import CATALOGUE
from .load import load_task
from .spec import Subtask
from .split import Split
from .task import Task
from .tokens import Tokens, tokenize

__all__ = ["CATALOGUE", "Split", "Subtask", "Task", "Tokens", "load_task", "tokenize"]
