"""Which neurons carry the skill: scores, ranking, significance, selection, the run, and what it is held against."""
