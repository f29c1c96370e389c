"""The phrases that the text tower learns: names, English words, states of products, captions. See ``text.py``.

WordNet (Debian package ``wordnet-base``) is read from its index files.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from sowa.synthetic import CATEGORIES

HELD_OUT, FEWEST_IMAGES = 20, 5
WORDS, WORDS_IN_TEMPLATES, CAPTIONS = 40_000, 15_000, 15_000
NAMED = "a photo of a {}"
TEMPLATES = (
    *("{}", NAMED, "a {}", "the {}", "a photo of the {}", "a picture of a {}", "a picture of the {}", "an image of {}"),
    *("a close-up of {}", "a close-up photo of a {}", "a cropped photo of the {}", "a bright photo of a {}"),
    *("a dark photo of the {}", "a blurry photo of a {}", "a photo of a small {}", "a photo of a large {}"),
    *("the surface of {}", "the texture of {}", "many {}", "{}."),
)
# For phrases that may have an article of their own.
SCENES = ("a photo of {}", "a picture of {}", "a close-up of {}", "an image of {}", "an inspection of {}", "{}.")

NORMAL = """
{}|flawless {}|perfect {}|unblemished {}|a {} without defects|{} without flaw|{} without damage|intact {}|good {}
undamaged {}|a clean {}|a new {}|an ordinary {}|a normal {}
"""
ANOMALOUS = """
damaged {}|defective {}|a {} with a defect|{} with flaw|{} with damage|faulty {}|abnormal {}|anomalous {}|ruined {}
scratched {}|a {} with a scratch|scratches on the {}|scuffed {}|worn {}|cracked {}|a crack in the {}|{} with a crack
a {} with a hole|a hole in the {}|a blowhole in the {}|porous {}|pierced {}|broken {}|a break in the {}|a broken-off {}
shattered {}|fractured {}|split {}|chipped {}|a chip in the {}|a {} with a chipped edge|frayed {}|a fray in the {}
torn {}|cut {}|a cut in the {}|loose threads on the {}|stained {}|a stain on the {}|a spot on the {}|oil on the {}
dented {}|a dent in the {}|crushed {}|squeezed {}|dirty {}|contaminated {}|contamination on the {}|dust on the {}
a foreign body on the {}|glue on the {}|discoloured {}|a discoloured spot on the {}|faded {}|burnt {}|uneven {}|rough {}
a wrinkled {}|folded {}|corroded {}|rusty {}|corrosion on the {}|rust on the {}|a burr on the {}|a {} with burrs
distorted {}|deformed {}|bent {}|twisted {}|warped {}|misaligned {}|a {} with a missing part|incomplete {}
a missing piece of the {}|a {} with a faulty imprint|misprinted {}|poked {}|swapped parts of the {}|leaking {}
"""
# Words for damage as labels of data sets have them: alone, without a product.
DAMAGE = """
scratch|scratches|crack|cracked|cracks|hole|holes|blowhole|pore|pores|break|broken|fracture|chip|chipped|fray|frayed
cut|tear|torn|stain|stained|spot|dent|dented|bump|dirt|dirty|dust|contamination|contaminated|foreign body|glue|oil
discoloration|discoloured|colour|uneven|unevenness|roughness|corrosion|corroded|rust|rusty|burr|burrs|distortion
distorted|bent|bend|deformed|missing|missing part|missing piece|misplaced|misaligned|faulty imprint|print|poke|squeeze
fold|wrinkle|thread|loose thread|damage|damaged|defect|defective|flaw|anomaly|normal|good|ok|flawless|intact|undamaged
no defect|without defect|clean|free of defects|perfect
"""
NOUNS = """
object|surface|part|piece|product|item|material|component|workpiece|sample|texture|pattern|edge|corner|coating|layer
metal plate|metal surface|metal nut|metal sheet|metal part|steel|stainless steel|brushed metal|painted steel|cast iron
aluminium|copper|brass|magnet|magnetic tile|wire|cable|wire mesh|grid|perforated plate|woven fabric|fabric|cloth|carpet
textile|knitted fabric|denim|felt|yarn|rope|zipper|leather|suede|tile|ceramic tile|floor tile|porcelain|ceramic|stone
marble|granite|concrete|asphalt|brick|plaster|wall|wood|wooden board|plywood|veneer|bamboo|cork|paper|cardboard
cardboard box|foil|plastic|plastic part|plastic film|rubber|foam|silicone|carbon fibre|glass|glass plate|mirror|lens
printed board|printed circuit board|circuit board|microchip|chip|wafer|transistor|capacitor|resistor|connector|socket
plug|solder joint|battery|solar cell|display|screen|keyboard|phone|toothbrush|brush|bottle|glass bottle|cap|lid|jar|can
tin|tube|box|package|label|bag|pouch|blister pack|capsule|pill|tablet|syringe|vial|mask|bandage|screw|bolt|nut|washer
nail|rivet|spring|gear|bearing|shaft|axle|valve|pipe|pipe fryum|hose|gasket|seal|ring|chain|hinge|handle|knob|switch
button|casting|weld|weld seam|rail|wheel|tyre|brake disc|engine block|car body|car door|windscreen|bumper|turbine blade
propeller|bridge|road|roof|window|door|chair|table|pen|pencil|candle|cashew|macaroni|chewing gum|hazelnut|almond|apple
potato|egg|bread|biscuit|cup|mug|plate|bowl|spoon|fork|knife|shoe|glove|shirt|coin|key|clock|wallet|bottle cap
"""
COLOURS = """
red|green|blue|yellow|orange|brown|black|white|grey|pink|purple|beige|silver|golden|transparent|dark|light|shiny|matt
"""
MATERIALS = """
plastic|metal|wooden|glass|rubber|ceramic|leather|paper|steel|stone|fabric|brass|copper|aluminium|concrete|cardboard
"""

# What the image tower is taught to see in the defect types of `sowa.synthetic`.
STATES = {
    "normal": "a flawless surface",
    "scratch": "a scratch",
    "crack": "a crack",
    "hole": "a hole",
    "stain": "a stain",
    "missing_part": "a missing part",
    "dent": "a dent",
    "contamination": "contamination with dirt",
    "chip": "a chipped edge",
    "discoloration": "a discoloured spot",
    "burr": "a burr on an edge",
    "corrosion": "corrosion and rust",
    "distortion": "a bent and distorted part",
}
# Pairs to compare student and teacher by.
PAIRS = (
    ("a crack", "cracked"),
    ("blowhole", "hole"),
    ("flawless tile", "damaged tile"),
    ("flawless object", "damaged object"),
    ("a scratch", "a flawless surface"),
)


def listed(text: str) -> list[str]:
    """The entries of one of the tables above."""
    return re.split(r"[|\n]", text.strip())


def names(corpus: Path) -> list[str]:
    """ImageNet's classes, the corpus' folders and the generated products, each once."""
    folders = [path.name for kind in ("objects", "textures") for path in sorted((corpus / kind).iterdir())]
    products = [name.replace("_", " ") for name in CATEGORIES]
    return list(dict.fromkeys([*IMAGENET_CLASSNAMES, *folders, *products]))


def draw_hold_out(corpus: Path, seed: int = 0) -> list[str]:
    """Names of object folders that neither tower shall see, drawn from those with enough images to test on."""
    folders = sorted(p.name for p in (corpus / "objects").iterdir() if len(list(p.iterdir())) >= FEWEST_IMAGES)
    return sorted(random.Random(seed).sample(folders, HELD_OUT))


def wordnet(index: Path) -> list[str]:
    """Entries of a WordNet index file, the commonest first: most often tagged, most senses, shortest."""
    found = []
    for line in index.read_text(encoding="ascii").splitlines():
        fields = line.split()
        # Licence lines begin with blanks; entries with digits or points are years, formulas and abbreviations.
        if not line.startswith(" ") and re.fullmatch(r"[a-z]{3,}(_[a-z]+){0,2}", fields[0]):
            tagged = int(fields[int(fields[3]) + 5])
            found.append((-tagged, -int(fields[2]), len(fields[0]), fields[0].replace("_", " ")))
    return [entry[-1] for entry in sorted(found)]


def without(phrases: Iterable[str], hold_out: Sequence[str]) -> list[str]:
    """Phrases, each once, in which no held-out name occurs as words of its own, singular or plural."""
    forms = "|".join(re.escape(name.lower().removesuffix("s")) for name in hold_out) or "(?!)"
    pattern = re.compile(rf"\b({forms})(s|es|ses)?\b")
    return [phrase for phrase in dict.fromkeys(phrases) if not pattern.search(phrase.lower())]


def industrial(rng: random.Random) -> list[str]:
    """Products and materials in normal and anomalous states and in colours; words for damage alone."""
    nouns, states = listed(NOUNS), listed(NORMAL) + listed(ANOMALOUS)
    stated = [state.format(noun) for noun, state in product(nouns, states)]
    coloured = [f"a {colour} {noun}" for colour, noun in product(listed(COLOURS), nouns)]
    made = [
        f"a {colour} {material} {rng.choice(nouns)}" for colour, material in product(*map(listed, (COLOURS, MATERIALS)))
    ]
    plain = [*listed(DAMAGE), *(f"a {word}" for word in listed(DAMAGE)), *nouns, *stated, *coloured, *made]
    return plain + [rng.choice(SCENES).format(phrase) for phrase in stated]


def build(corpus: Path, words: Path, hold_out: Sequence[str], seed: int) -> list[str]:
    """All training phrases, without held-out names."""
    rng = random.Random(seed)
    named = without(names(corpus), hold_out)
    states = listed(NORMAL) + listed(ANOMALOUS)
    phrases = [t.format(name) for name in named for t in (*TEMPLATES[:2], *rng.sample(TEMPLATES[2:], 4))]
    phrases += [state.format(name) for name in named for state in rng.sample(states, 4)]
    phrases += industrial(rng)
    nouns, adjectives = wordnet(words / "index.noun"), wordnet(words / "index.adj")
    phrases += nouns[: WORDS * 3 // 4] + adjectives[: WORDS // 4]
    phrases += [rng.choice(TEMPLATES).format(noun) for noun in nouns[:WORDS_IN_TEMPLATES]]
    # Rare adjectives and nouns would only make noise of a caption.
    phrases += [f"a {rng.choice(adjectives[:2000])} {rng.choice(nouns[:6000])}" for _ in range(CAPTIONS)]
    return without(phrases, hold_out)
