"""Which nulls a finding is held against; the options of `nulls` and of the command line.

NullConfig.make(permutations=1000, null="random-model")
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ...config import Config


class NullConfig(Config):
    """Options of the nulls; input length is always among them."""

    permutations: Annotated[int, Field(ge=0)] = 0
    """Shuffles of dev's labels; 0: none. At least 19, for R of them give no p below 1 / (R + 1)."""
    null: Literal["none", "random-model"] = "none"
    """random-model: the same pipeline on the random-weight model, which takes as long as the finding did."""
    memory: Annotated[float, Field(gt=0)] = 4.0
    """Gigabytes that the shuffled labels' counters may take; beyond, dev is passed several times."""

    @field_validator("permutations")
    @classmethod
    def _enough(cls, permutations: int) -> int:
        if 0 < permutations < 19:
            raise ValueError(
                f"R permutations give no p below 1 / (R + 1), here {1 / (permutations + 1):.2g}: take 19 at least, for "
                "0.05, or 0 for none"
            )
        return permutations
