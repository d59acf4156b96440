"""Many findings and experiments as one plan: small steps, kept in a store, run by an engine.

`config` reads the study file, `draft` makes its steps and `plan` their keys; `store` (on `files`, `receipt`, `lease`)
keeps what they give; `kinds` has the functions that do them (the longer ones in `findings`, `curves`, `drawing`),
`work` and `bench` what these need; `local` and `on_ray` are the engines, `study` runs it all. `result` is the folder
that holds tables and figures, `published` has the paper's own, `price` says beforehand what it will cost.
"""
