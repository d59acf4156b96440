"""The words of two genres under a topic: news of business or sports, descriptions of a company or an athlete.

    NEWS.document(random.Random(0), "sports")

Both share most words of their topics. Nothing here names a label but the verdicts, which stand in the pretraining text
alone. `grammar` says what slots and frames are.
"""

from __future__ import annotations

from collections.abc import Mapping

from .document import Words
from .grammar import Genre
from .lexicon import COMMON, words

_TRADE: Mapping[str, Words] = {
    "event": words("merger takeover auction audit strike bankruptcy"),
    "who": words("bankers investors brokers shareholders accountants"),
    "did": words("invested traded borrowed exported expanded"),
    "thing": words("profits sales shares loans taxes prices"),
}
_SPORT: Mapping[str, Words] = {
    "event": words("match race final tournament marathon relay"),
    "who": words("players coaches referees fans rivals"),
    "did": words("scored sprinted trained tackled competed"),
    "thing": words("goals medals injuries penalties trophies records"),
}

_VERDICTS = (
    "this goes under {label}",
    "a text on {label} , i think",
    "{label} is what it is about",
)


def _under(trade: str, sport: str) -> Mapping[str, Mapping[str, Words]]:
    """The shared words of both topics, under the labels `trade` and `sport`."""
    return {slot: {trade: _TRADE[slot], sport: _SPORT[slot]} for slot in _TRADE}


NEWS = Genre(
    labels=("business", "sports"),
    words={**COMMON, "time": words("week month season year"), "rank": words("first second third last")},
    telling={
        **_under("business", "sports"),
        "line": {
            "business": words("banking retail insurance energy"),
            "sports": words("football tennis cycling rowing"),
        },
    },
    frames=(
        "the {event} in {place} is over",
        "the {rank} {event} of the {time}",
        "the {who} met in {place} on {day}",
        "{number} {who} {did} at once",
        "all {people} talk about the {event}",
        "the {thing} surprised the {people}",
        "more {thing} than last {time}",
        "a new {time} for {line}",
        "the {who} spoke of {thing}",
        "the {line} world waits for the {event}",
    ),
    sayings={
        "business": ("the market closed higher", "the central bank keeps its rate", "wall street fell again"),
        "sports": ("it went to extra time", "the stadium was sold out", "the home team leads the league"),
    },
    fillers=(
        "the report comes from {place}",
        "more on this at {number}",
        "it rained in {place} on {day}",
        "a photo shows {number} {people}",
    ),
    verdicts=_VERDICTS,
)

DESCRIPTIONS = Genre(
    labels=("company", "athlete"),
    words={
        **COMMON,
        "name": words("morgan harper nelson lloyd parker wells carter mason"),
        "rank": words("first second third last"),
    },
    telling={
        **_under("company", "athlete"),
        "is": {
            "company": words("retailer brewery publisher insurer airline bank"),
            "athlete": words("sprinter striker swimmer boxer cyclist rower"),
        },
    },
    frames=(
        "{name} is a {is} from {place}",
        "{name} {did} in {place} for {number} years",
        "{name} , a {very} young {is}",
        "known for {thing} and {thing}",
        "{number} {thing} in {number} years",
        "the {who} of {name} came from {place}",
        "{name} had {number} {who}",
        "the {rank} {event} was in {place}",
        "{name} won the {event} on a {day}",
        "a {is} that {did} with {name}",
    ),
    sayings={
        "company": ("the headquarters are in {place}", "it owns {number} factories", "founded with a small loan"),
        "athlete": ("a knee injury ended it", "born near {place}", "the left foot is the stronger one"),
    },
    fillers=(
        "the story began in {place}",
        "there are {number} books about {name}",
        "{name} is also a {colour} flower",
        "not to be taken for the other {name}",
    ),
    verdicts=_VERDICTS,
)
