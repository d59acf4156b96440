"""How a prompt is made: its options (`config`), soft, random and hard prompts (`prompt`), one training loop (`train`).

Nothing is imported here, so that `config`, which the command line reads first, comes without torch.
"""
