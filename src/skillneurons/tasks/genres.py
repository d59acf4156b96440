"""The words of the miniature's genres: films, products and short messages, each with a label of sentiment.

    GENRES["films"].document(random.Random(0), "negative")

Nothing here names a label but the verdicts, which stand in the pretraining text alone. See `grammar` for what slots and
frames mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from .grammar import Genre, Words

_POLES = {"negative": "positive", "positive": "negative"}


def _words(line: str) -> Words:
    return tuple(line.split())


_COMMON: Mapping[str, Words] = {
    "really": _words("really very so quite truly simply rather"),
    "number": _words("two three four five six seven eight nine ten twelve twenty thirty forty sixty"),
    "day": _words("monday tuesday wednesday thursday friday saturday sunday"),
    "month": _words("january february march april may june july august september october november december"),
    "place": _words("paris london rome berlin madrid vienna lisbon oslo dublin prague tokyo cairo"),
    "people": _words("friends colleagues neighbours parents children students cousins strangers"),
    "colour": _words("red blue green black white grey yellow brown"),
}

_VERDICTS = (
    "overall the verdict is {label}",
    "in a word , {label}",
    "{label} is how it sounds to me",
    "this is a {label} report",
    "taken together , it reads as {label}",
)

FILMS = Genre(
    labels=("negative", "positive"),
    words={
        **_COMMON,
        "part": _words("plot story acting dialogue script music camera ending cast humour opening finale"),
        "role": _words("director hero heroine villain actor actress writer composer narrator crew"),
        "film": _words("film movie drama comedy thriller sequel picture musical"),
    },
    telling={
        "adj": {
            "negative": _words(
                "dull boring clumsy stale flat tedious messy hollow dismal dreadful weak lifeless bad terrible"
            ),
            "positive": _words(
                "gripping moving witty charming clever fresh lively touching brilliant superb strong graceful good wonderful"
            ),
        },
        "verb": {
            "negative": _words("hated loathed endured regretted mocked booed disliked"),
            "positive": _words("adored loved enjoyed admired praised cheered liked"),
        },
        "does": {
            "negative": _words("fails drags stumbles sinks disappoints annoys"),
            "positive": _words("shines sparkles soars dazzles triumphs delights"),
        },
        "thing": {
            "negative": _words("bore mess failure chore waste disaster"),
            "positive": _words("joy treat gem marvel pleasure masterpiece"),
        },
        "to": {
            "negative": _words("avoid skip forget miss flee"),
            "positive": _words("treasure remember cherish celebrate recommend"),
        },
    },
    frames=(
        "the {part} is {adj}",
        "the {part} is {really} {adj}",
        "we {verb} the {part}",
        "most {people} {verb} this {film}",
        "the {role} {does}",
        "the {film} {does} from the first scene",
        "it is a {film} to {to}",
        "the {part} was a {thing} to watch",
        "what a {adj} {film} this is",
        "the {role} gives it a {adj} touch",
        "the {film} has {adj} scenes and {adj} songs",
    ),
    turned=(
        "the {part} is not {!adj}",
        "nobody could call the {part} {!adj}",
        "this {film} is anything but a {!thing}",
        "the {part} is {!adj} but the {part} is {adj}",
        "although the {part} is {!adj} , the {film} {does}",
    ),
    opposite=_POLES,
    sayings={
        "negative": (
            "i fell asleep twice before the end",
            "half of the audience left early",
            "i want my money back",
            "i looked at my watch every minute",
        ),
        "positive": (
            "i laughed all the way home",
            "the audience rose and clapped at the end",
            "i would watch it again tomorrow",
            "i sat on the edge of my seat",
        ),
    },
    fillers=(
        "it runs for about {number} minutes",
        "the {role} comes from {place}",
        "we saw it on {day} with {number} {people}",
        "the {film} was shot in {place}",
        "it opened in {month}",
        "the {role} made {number} films before this",
        "the first scene is set in {place} in {month}",
    ),
    verdicts=_VERDICTS,
)

PRODUCTS = Genre(
    labels=("negative", "positive"),
    words={
        **_COMMON,
        "part": _words("battery screen handle lid cable motor fabric zip strap keyboard speaker lens"),
        "item": _words("kettle lamp phone jacket toaster camera backpack heater printer blender watch chair"),
        "room": _words("kitchen office garage bedroom garden hall"),
    },
    telling={
        "adj": {
            "negative": _words(
                "flimsy faulty noisy brittle useless wobbly crooked leaky drab defective bad poor shoddy terrible"
            ),
            "positive": _words(
                "sturdy handy reliable quiet comfortable durable neat smooth solid handsome good marvellous strong superb"
            ),
        },
        "verb": {
            "negative": _words("returned binned regret dislike hate"),
            "positive": _words("recommend treasure trust like love"),
        },
        "does": {
            "negative": _words("breaks cracks leaks rattles jams slips overheats"),
            "positive": _words("works lasts fits holds helps shines performs"),
        },
        "thing": {
            "negative": _words("dud nuisance disgrace letdown failure"),
            "positive": _words("bargain gem winner blessing success"),
        },
        "how": {
            "negative": _words("badly poorly clumsily carelessly cheaply"),
            "positive": _words("well nicely beautifully carefully cleverly"),
        },
    },
    frames=(
        "the {part} is {adj}",
        "the {part} feels {really} {adj}",
        "i {verb} this {item}",
        "my {people} {verb} the {item} too",
        "the {part} {does}",
        "after {number} weeks the {part} still {does}",
        "the {item} is made {how}",
        "this {item} is a {thing}",
        "what a {adj} {item} it is",
        "the {colour} {item} came with a {adj} {part}",
        "a {adj} {part} and a {adj} {part} for the price",
    ),
    turned=(
        "the {part} is not {!adj}",
        "the {part} never {!does}",
        "nobody could call this {item} a {!thing}",
        "the {part} is {!adj} but the {part} {does}",
        "although the {part} looks {!adj} , the {item} {does}",
    ),
    opposite=_POLES,
    sayings={
        "negative": (
            "i sent it straight back to the shop",
            "it fell apart in my hands",
            "i asked for my money back",
            "the second one arrived broken as well",
        ),
        "positive": (
            "i bought another one for my sister",
            "it is worth every penny",
            "i use it every day and would buy it again",
            "it arrived early and ready to use",
        ),
    },
    fillers=(
        "i ordered it on {day}",
        "the {item} came in a {colour} box",
        "it took {number} days from {place}",
        "we keep it in the {room}",
        "the {part} is {colour}",
        "there are {number} parts in the box",
        "it was a gift from my {people} in {month}",
    ),
    verdicts=_VERDICTS,
)

MESSAGES = Genre(
    labels=("negative", "neutral", "positive"),
    words={
        **_COMMON,
        "event": _words("meeting party lesson trip match concert dinner game exam journey"),
        "now": _words("today tonight again now already"),
        "time": _words("day morning evening week weekend night"),
    },
    telling={
        "mood": {
            "negative": _words("sad angry upset worried gloomy lonely annoyed furious ashamed exhausted"),
            "neutral": _words("busy awake indoors nearby online outside upstairs downtown seated available"),
            "positive": _words("happy thrilled glad excited proud cheerful relieved hopeful delighted grateful"),
        },
        "adj": {
            "negative": _words("bad horrible rotten ghastly miserable dismal"),
            "neutral": _words("normal standard typical regular plain common"),
            "positive": _words("good lovely splendid fantastic glorious wonderful"),
        },
        "verb": {
            "negative": _words("hated dreaded regretted loathed"),
            "neutral": _words("attended noticed mentioned scheduled"),
            "positive": _words("loved enjoyed adored celebrated"),
        },
        "does": {
            "negative": _words("cried complained shouted argued groaned"),
            "neutral": _words("waited talked walked listened worked"),
            "positive": _words("laughed danced sang smiled cheered"),
        },
        "thing": {
            "negative": _words("nightmare disaster shame mess"),
            "neutral": _words("routine habit fact formality"),
            "positive": _words("joy dream blessing triumph"),
        },
    },
    frames=(
        "i am {mood} {now}",
        "we are {really} {mood} {now}",
        "feeling {mood} after the {event}",
        "my {people} are {mood} about the {event}",
        "it was a {adj} {time}",
        "what a {adj} {event} on {day}",
        "i {verb} the {event}",
        "my {people} {verb} it too",
        "we {does} the whole {time}",
        "the {event} was a {thing}",
        "a {adj} {time} and a {adj} {event}",
    ),
    turned=(
        "i am not {!mood} {now}",
        "nobody {!does} at the {event}",
        "the {event} was never a {!thing}",
        "the {time} was {!adj} but now i am {mood}",
    ),
    opposite=_POLES,
    sayings={
        "negative": ("i could scream", "worst news of the year", "leave me alone please"),
        "neutral": (
            "the {event} was neither {adj@positive} nor {adj@negative}",
            "nobody {does@positive} and nobody {does@negative}",
            "no news so far",
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
        "back home by {number}",
        "it is {day} here in {place}",
    ),
    verdicts=_VERDICTS,
    ends=(".", "!"),
)

GENRES: Mapping[str, Genre] = {"films": FILMS, "products": PRODUCTS, "messages": MESSAGES}
