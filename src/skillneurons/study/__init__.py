"""Many findings and experiments as one plan: small steps, kept in a store, run by an engine.

`config` reads the study file, `draft` makes its steps and `plan` their keys; `store` (on `files` and `lease`) keeps
what they give; `kinds` has the functions that do them, `work` and `bench` what these need; `local` and `on_ray` are
the engines, `study` runs it all. `drawing` and `published` make tables and figures of it, `result` is the folder that
holds them, `price` says beforehand what it will cost.
"""
