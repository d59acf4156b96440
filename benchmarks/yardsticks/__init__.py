"""What the speed benchmark measures, a module for each row of its table, and what they share.

plain, shape                       the workflow that is compared with, the model and the data
turns, figure, setting             how it is timed, what comes out, where it runs
tuning, scoring, together, whole, curve, precision, pruning, startup, paper
kept, page                         what is kept of a run, and how it is shown
"""
