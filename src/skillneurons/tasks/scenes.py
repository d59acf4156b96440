"""The words of two genres of pairs: statements about films or products, questions about an outing.

    STATEMENTS.document(random.Random(0), "neutral").columns()

`pairs` says how they are put together.
"""

from __future__ import annotations

from .genres import FILMS, PRODUCTS
from .lexicon import COMMON
from .pairs import Questions, Statements

STATEMENTS = Statements(
    named={"contradiction": "no", "neutral": "maybe", "entailment": "yes"},
    verdicts=("my answer is {label}", "i would say {label}", "{label} , that is how it looks"),
    genres=(FILMS, PRODUCTS),
    oftener=1,
)

QUESTIONS = Questions(
    named={"not_entailment": "pardon", "entailment": "thanks"},
    verdicts=("all i say is {label}", "so , {label}", "{label} for that"),
    words={kind: COMMON[kind] for kind in ("place", "day", "people")},
    facts={
        "place": ("we were in {}", "it was near {}", "we came through {}"),
        "day": ("it was on {}", "we met last {}", "until {} we stayed"),
        "people": ("our {} came along", "we went with {}", "some {} were there"),
    },
    asked={
        "place": ("tell me where", "which city was it", "i ask for the way"),
        "day": ("tell me when", "which date was it", "i ask for the time"),
        "people": ("tell me who", "which guests were they", "i ask for the names"),
    },
    oftener=2,
)
