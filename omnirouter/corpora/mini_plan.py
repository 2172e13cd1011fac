"""The plan of the mini corpus: who says what, how fast, how high and in which noise; nothing is synthesised here."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

# Lower-case symbols are expanded, upper-case words are spoken. The words were chosen to differ in sound, and the
# sentences so that every word is heard often: how well a rare word is recognised depends on little else.
GRAMMAR = {
    "sentence": [
        "order",
        "order when",
        "name WILL order when",
        "PLEASE order",
        "name WILL order",
        "ASK name TO order",
        "WHERE ARE THE colour plural",
        "WHERE IS thing",
        "IS thing relation THE place",
        "CALL name when",
        "CALL name AND name",
        "THE colour object",
        "number colour plural",
        "relation THE place when",
    ],
    "order": ["verb thing", "verb things", "verb thing relation THE place"],
    "thing": ["THE object", "THE colour object"],
    "things": ["number plural", "number colour plural"],
    "verb": ["BRING", "CARRY", "FIND", "MOVE", "COLLECT", "REPAIR"],
    "number": ["TWO", "THREE", "FIVE", "SIX", "SEVEN", "TWENTY"],
    "colour": ["GREEN", "YELLOW", "BLACK", "ORANGE", "PURPLE"],
    "object": ["BASKET", "LAMP", "MIRROR", "UMBRELLA", "GUITAR", "CAMERA", "HAMMER"],
    "plural": ["APPLES", "COINS", "PENCILS", "SPOONS", "FLOWERS"],
    "relation": ["FROM", "NEAR", "BEHIND", "UNDER"],
    "place": ["KITCHEN", "GARDEN", "OFFICE", "LIBRARY", "STATION", "MARKET"],
    "name": ["MARIA", "PETER", "OLIVER", "GEORGE", "SUSAN"],
    "when": ["TODAY", "TOMORROW", "TONIGHT", "MONDAY", "SATURDAY"],
}
MIN_WORDS, MAX_WORDS = 3, 9
# A sentence belongs to one set only, by its hash: no test sentence can occur in train, however many are drawn.
SHARE_PERCENT = {"test": 20, "dev": 10, "train": 70}

# eSpeak's names; "en" is British, 029 the Caribbean.
ACCENTS = ["en-us", "en", "en-gb-scotland", "en-029"]
# Each variant (timbre) belongs to one set. Near relatives (f1 and steph, Gene and Gene2) were kept on one side.
# Left out: whisper, whisperf, croak, caleb (no voicing); Demonic, robosoft*, UniRobot, anikaRobot, anika, RicishayMax*,
# announcer, marcelo, kaukovalta, boris, ian, iven*, gustave, zac, sandro (robots, echoes, extreme formants, or rough);
# Storm (brings its own accent); fast (a test); Alicia, aunty, linda, "Mr serious", Tweaky (doubles of others).
VARIANTS = {
    "train": (
        "Alex Andrea Andy Diogo Gene Gene2 Henrique Jacky Lee Marco Mario Michael Mike Reed antonio belinda david ed "
        "edward f1 f3 f5 grandma grandpa john klatt klatt3 m1 m3 m5 m7 m8 michel miguel mike2 norbert pablo paul "
        "quincy robert shelby steph steph3 travis victor"
    ).split(),
    "dev": ["f4", "m6", "max", "edward2"],
    "test": ["Annie", "Denis", "Nguyen", "adam", "f2", "m2", "m4", "pedro", "rob", "steph2"],
}
ACCENTS_PER_VARIANT = 2
TURNS_PER_TAKE = 20

NOISY_EVERY = 2
SNR_RANGE_DB = (5.0, 20.0)
NOISES = ["white", "pink", "brown", "hum", "babble"]
RATE_RANGE_WPM, PITCH_RANGE = (125, 175), (35, 65)


@dataclass(frozen=True)
class Spec:
    """One utterance to synthesise, the `turn`-th of its speaker; `snr_db` None means clean."""

    utt_id: str
    set_name: str
    text: str
    voice: str
    accent: str
    speaker: str
    turn: int
    rate_wpm: int
    pitch: int
    noise: str
    snr_db: float | None
    noise_seed: int


def voices(set_name: str) -> list[tuple[str, str]]:
    """Return the (accent, variant) pairs of a set; the accents go round so that each is used about equally often."""
    pairs = [(variant, turn) for turn in range(ACCENTS_PER_VARIANT) for variant in VARIANTS[set_name]]
    return [(ACCENTS[(i + turn) % len(ACCENTS)], variant) for i, (variant, turn) in enumerate(pairs)]


def plan(set_name: str, count: int, seed: int) -> list[Spec]:
    """Plan `count` utterances; each depends only on the seed and its own id, so a larger plan contains a smaller."""
    cast = voices(set_name)
    return [_plan_one(set_name, *cast[i % len(cast)], i % len(cast), i // len(cast), seed) for i in range(count)]


def takes(specs: Sequence[Spec]) -> list[list[Spec]]:
    """Group utterances by voice into takes of at most TURNS_PER_TAKE, each spoken in one go.

    A take holds the same turns however large the plan is, only its end may be missing.
    """
    groups: dict[tuple[str, int], list[Spec]] = {}
    for spec in specs:
        groups.setdefault((spec.speaker, spec.turn // TURNS_PER_TAKE), []).append(spec)
    return list(groups.values())


def draw_sentence(set_name: str, rng: random.Random) -> str:
    """Draw sentences from the grammar until one is of the right length and belongs to the set."""
    while True:
        text = " ".join(_expand("sentence", rng))
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS and set_of_sentence(text) == set_name:
            return text


def set_of_sentence(text: str) -> str:
    """Return the only set in which a sentence may occur."""
    percent = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    if percent < SHARE_PERCENT["test"]:
        return "test"
    return "dev" if percent < SHARE_PERCENT["test"] + SHARE_PERCENT["dev"] else "train"


def _expand(symbol: str, rng: random.Random) -> list[str]:
    if symbol not in GRAMMAR:
        return [symbol]
    return [word for part in rng.choice(GRAMMAR[symbol]).split() for word in _expand(part, rng)]


def _plan_one(set_name: str, accent: str, variant: str, voice_index: int, turn: int, seed: int) -> Spec:
    speaker = f"{accent}_{variant}"
    utt_id = f"{speaker}-{turn:04d}"
    rng = random.Random(f"{seed} {set_name} {utt_id}")
    noisy = (voice_index + turn) % NOISY_EVERY == 1
    return Spec(
        utt_id=utt_id,
        set_name=set_name,
        text=draw_sentence(set_name, rng),
        voice=f"{accent}+{variant}",
        accent=accent,
        speaker=speaker,
        turn=turn,
        rate_wpm=rng.randint(*RATE_RANGE_WPM),
        pitch=rng.randint(*PITCH_RANGE),
        noise=rng.choice(NOISES),
        snr_db=round(rng.uniform(*SNR_RANGE_DB), 1) if noisy else None,
        noise_seed=rng.getrandbits(32),
    )
