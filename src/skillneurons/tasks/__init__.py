"""What is asked: tasks with their labels, label words, subtasks and splits.

    from skillneurons.tasks import Task, load_task

`task` is the task itself and `split` its samples; `taskfile` the TOML form, `sources` where samples come from,
`samples` their check, `catalogue` the paper's seven, `miniature` the embedded language, `load` finds any of them, and
`tokens` keeps the tokenised texts.
"""

from __future__ import annotations

from .catalogue import CATALOGUE
from .load import load_task
from .task import Split, Subtask, Task
from .tokens import Tokens, tokenize

__all__ = ["CATALOGUE", "Split", "Subtask", "Task", "Tokens", "load_task", "tokenize"]
