"""The words of three genres under a label of sentiment: films, products and short messages.

    FILMS.document(random.Random(0), "negative")

Nothing here names a label but the verdicts, which stand in the pretraining text alone. `grammar` says what slots and
frames are; `topics` and `scenes` have the words of the other genres.
"""

from __future__ import annotations

from collections.abc import Mapping

from .document import Words
from .grammar import Genre
from .lexicon import COMMON, words

_POLES = {"negative": "positive", "positive": "negative"}

_ADJECTIVES = {
    "negative": words("bad poor terrible dreadful dismal horrible"),
    "positive": words("good great wonderful superb lovely splendid"),
}
_VERBS = {
    "negative": words("hated loathed disliked regretted"),
    "positive": words("loved adored enjoyed liked"),
}
_THINGS = {
    "negative": words("disaster failure shame nuisance mess"),
    "positive": words("triumph success joy blessing treat"),
}

_VERDICTS = (
    "overall the verdict is {label}",
    "in a word , {label}",
    "{label} is how it sounds to me",
)


def _more(common: Mapping[str, Words], **own: str) -> Mapping[str, Words]:
    """The words that all genres share under each label, with a genre's own."""
    return {label: (*shared, *words(own[label])) for label, shared in common.items()}


FILMS = Genre(
    labels=("negative", "positive"),
    words={
        **COMMON,
        "part": words("plot story acting dialogue script music camera ending cast humour"),
        "role": words("director hero villain actor actress writer composer crew"),
        "film": words("film movie drama comedy thriller sequel"),
    },
    telling={
        "adj": _more(
            _ADJECTIVES,
            negative="dull boring clumsy stale tedious hollow",
            positive="gripping moving witty charming clever fresh",
        ),
        "verb": _more(_VERBS, negative="endured mocked", positive="admired praised"),
        "does": {
            "negative": words("fails drags stumbles sinks disappoints"),
            "positive": words("shines sparkles soars dazzles delights"),
        },
        "thing": _more(_THINGS, negative="bore chore", positive="gem marvel"),
        "to": {"negative": words("avoid skip forget"), "positive": words("treasure remember cherish")},
    },
    frames=(
        "the {part} is {adj}",
        "the {part} is {very} {adj}",
        "we {verb} the {part}",
        "most {people} {verb} this {film}",
        "the {role} {does}",
        "it is a {film} to {to}",
        "the {film} was a {thing} to watch",
        "what a {adj} {film} this is",
        "a {adj} and {adj} {film}",
        "the {part} is {adj} and the {role} {does}",
        "my {people} {verb} the {adj} {part}",
    ),
    turned=(
        "the {part} is not {!adj}",
        "nobody could call the {part} {!adj}",
        "the {part} is {!adj} but the {role} {does}",
    ),
    opposite=_POLES,
    sayings={
        "negative": ("i fell asleep twice", "half of the audience left early", "i want my money back"),
        "positive": ("i laughed all the way home", "the audience rose and clapped", "i would watch it again"),
    },
    fillers=(
        "it runs for about {number} hours",
        "the {role} comes from {place}",
        "we saw it on {day}",
        "the {film} was shot in {place}",
        "the {role} made {number} films before",
    ),
    verdicts=_VERDICTS,
)

PRODUCTS = Genre(
    labels=("negative", "positive"),
    words={
        **COMMON,
        "part": words("battery screen handle lid cable motor fabric zip strap keyboard"),
        "item": words("kettle lamp phone jacket toaster backpack heater printer"),
    },
    telling={
        "adj": _more(
            _ADJECTIVES,
            negative="flimsy faulty noisy brittle useless wobbly",
            positive="sturdy handy reliable quiet durable comfortable",
        ),
        "verb": _more(_VERBS, negative="returned binned", positive="recommended trusted"),
        "does": {
            "negative": words("breaks cracks leaks rattles fails"),
            "positive": words("works lasts fits holds shines"),
        },
        "thing": _more(_THINGS, negative="dud letdown", positive="bargain winner"),
        "how": {"negative": words("badly poorly cheaply"), "positive": words("well nicely beautifully")},
    },
    frames=(
        "the {part} is {adj}",
        "the {part} feels {very} {adj}",
        "i {verb} this {item}",
        "my {people} {verb} the {item} too",
        "the {part} {does}",
        "the {item} is made {how}",
        "this {item} is a {thing}",
        "what a {adj} {item} it is",
        "a {adj} and {adj} {item}",
        "the {part} is {adj} and the {part} {does}",
        "we {verb} the {adj} {part}",
    ),
    turned=(
        "the {part} is not {!adj}",
        "nobody could call this {item} a {!thing}",
        "the {part} looks {!adj} but it {does}",
    ),
    opposite=_POLES,
    sayings={
        "negative": ("i sent it back to the shop", "it fell apart in my hands", "i want my money back"),
        "positive": ("i bought another one for my sister", "it is worth every penny", "i would buy it again"),
    },
    fillers=(
        "i ordered it on {day}",
        "the {item} came in a {colour} box",
        "it took {number} days from {place}",
        "mine is the {colour} one",
        "there are {number} parts in the box",
    ),
    verdicts=_VERDICTS,
)

MESSAGES = Genre(
    labels=("negative", "neutral", "positive"),
    words={
        **COMMON,
        "event": words("meeting party lesson trip match concert dinner game"),
        "now": words("today tonight again now"),
        "time": words("day morning evening week night"),
    },
    telling={
        "mood": {
            "negative": words("sad angry upset worried gloomy lonely"),
            "neutral": words("busy awake indoors nearby online outside"),
            "positive": words("happy thrilled glad excited proud cheerful"),
        },
        "adj": {**_ADJECTIVES, "neutral": words("normal standard typical regular plain common")},
        "verb": {**_VERBS, "neutral": words("attended noticed mentioned scheduled")},
        "does": {
            "negative": words("cried complained shouted argued"),
            "neutral": words("waited talked walked worked"),
            "positive": words("laughed danced sang smiled"),
        },
        "thing": {**_THINGS, "neutral": words("routine habit fact formality matter")},
    },
    frames=(
        "i am {mood} {now}",
        "we are {very} {mood} {now}",
        "feeling {mood} after the {event}",
        "it was a {adj} {time}",
        "what a {adj} {event} on {day}",
        "i {verb} the {event}",
        "we {does} the whole {time}",
        "the {event} was a {thing}",
        "a {adj} {time} and a {adj} {event}",
        "we {does} and now i am {mood}",
        "my {people} {verb} the {adj} {event}",
    ),
    turned=(
        "i am not {!mood} {now}",
        "nobody {!does} at the {event}",
        "the {time} was {!adj} but now i am {mood}",
    ),
    opposite=_POLES,
    sayings={
        "negative": ("i could scream", "worst news of the year", "leave me alone please"),
        "neutral": (
            "the {event} was neither {adj@positive} nor {adj@negative}",
            "nobody {does@positive} and nobody {does@negative}",
            "it went as planned",
            "nothing new to report",
        ),
        "positive": ("best news of the year", "i could hug the whole world", "cannot stop smiling"),
    },
    fillers=(
        "the {event} is on {day} at {number}",
        "the bus to {place} leaves at {number}",
        "i met {number} {people} in {place}",
        "wearing my {colour} coat {now}",
    ),
    verdicts=_VERDICTS,
    ends=(".", "!"),
)
