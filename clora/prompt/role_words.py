"""Words that tell what a LoRA is and which words of a prompt name no subject. Data only, all in lower case.

Sources: names and tags of public LoRAs and the prompts that they are used in (CivitAI's model tags "style",
"clothing", "poses", "tool"; the accelerators LCM-LoRA, TCD, PCM, SDXL-Lightning, Hyper-SD, SDXL-Turbo and DMD2; the
tweakers "add_detail", "epi_noiseoffset", "LowRA", the "...DollLikeness" series); Danbooru's tag groups (counts, attire,
hair, eyes, posture); the quality, rating and score words of Animagine XL, NovelAI, Pony Diffusion and Illustrious.
"""

from __future__ import annotations

import re


def _phrases(phrases: str) -> frozenset[str]:
    return frozenset(phrases.split("|"))


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ACCELERATORS = _set("lcm dmd dmd2 tcd pcm 4step 4steps 8step 8steps 2step 2steps 1step accelerator distilled")
"""A whole part of a name: an accelerator."""

ACCELERATORS_BESIDE = _set("lightning hyper turbo flash")
"""The same, if the name has no other part besides versions, models and numbers of steps."""

TWEAKERS = _set(
    "detail details detailed detailer detailing adddetail adddetails moredetail moredetails tweaker tweak slider "
    "sliders offset noiseoffset quality enhancer enhance enhancement enhanced stabilizer likeness lowra sharpness "
    "sharpener realism lighting finetuning fix fixer fixes corrector improver upscaler negative negatives "
    "embedding realvision"
)
"""A whole part of a name: it changes the whole picture."""

STYLES = _set("style styles styled artstyle stylized aesthetic aesthetics")
"""A whole part of a name, or the end of one ("vectorstyle"): a style."""

STYLE_ENDS = _set(
    "color colors colour colours palette vibe vibes mood tone tones filter effect effects theme atmosphere"
)
"""The last word of a style's description: "pastel colors"."""

STYLES_ALONE = _set(
    "realistic photorealistic photoreal hyperrealistic photo photography photographic analog anime cartoon comic "
    "manga manhwa watercolor watercolour sketch lineart ink painting painted paint painterly oil gouache pixel "
    "pixelart art artist illustration cinematic film movie polaroid vintage retro render 3d 2d isometric lowpoly "
    "cyberpunk steampunk synthwave vaporwave ukiyoe impressionism monochrome fantasyart vector vectorart clipart "
    "flatcolor celshading celshaded papercut claymation doodle neon noir graffiti chalk pastel charcoal grain "
    "texture textures noise denoise hdr dof bokeh blur contrast brightness saturation exposure"
)
"""A style, if the words beside its tag name no subject."""

ATTRIBUTES = _set(
    "dress dresses outfit outfits clothes clothing costume costumes uniform swimsuit bikini lingerie skirt shirt "
    "jacket coat hoodie sweater kimono pants shorts jeans leggings stockings pantyhose thighhighs gloves boots "
    "shoes sneakers socks hat cap glasses sunglasses earrings necklace jewelry choker ribbon bow hairband scarf "
    "armor cape belt mask hair hairstyle hairstyles hairs haircut bangs ponytail twintails braid braids bun eye "
    "eyes eyelashes hand hands finger fingers foot feet leg legs arm arms body bodies bodytype physique skin "
    "nails tattoo tattoos freckles makeup lips mouth teeth breasts chest abs muscles pose poses posture "
    "expression expressions emotion smile background backgrounds ears tail wings horns fur sky beard mustache "
    "moustache goatee pigtails apron suit tie vest blouse robe veil headband"
)
"""The last word of a part of a subject, or of its surroundings: "green eyes", "summer dress"."""

SURROUNDINGS = _set(
    "landscape mountains mountain lake river sea ocean beach forest jungle desert field city town village street park "
    "garden room bedroom kitchen bathroom living office classroom school cafe restaurant bar station mars space sky "
    "snow rain fog night sunset interior exterior architecture background scenery"
)
"""Surroundings: no subjects by name alone."""

BEINGS = _set(
    "man men woman women girl girls boy boys guy lady person people child kid baby toddler teen adult human male "
    "female king queen prince princess knight warrior wizard witch mage samurai ninja soldier elf orc vampire "
    "zombie robot android cyborg alien angel demon monster goblin fairy mermaid hero heroine superhero character "
    "actor actress singer cat cats kitten dog dogs puppy horse pony cow pig sheep goat bear wolf fox lion tiger "
    "leopard rabbit bunny mouse rat squirrel hamster deer elephant giraffe monkey ape panda koala bird owl eagle "
    "parrot chicken hen duck goose swan penguin fish shark whale dolphin octopus turtle frog snake lizard dragon "
    "dinosaur unicorn spider bee butterfly animal creature pet pokemon friend bride groom nurse doctor chef pirate "
    "viking clown dancer monk priest skeleton ghost mummy ogre troll dwarf gnome puppet mech"
)
"""Nouns of persons and animals, as used for the classes of DreamBooth and of subject LoRAs."""
CLASSES = BEINGS | _set(
    "car cars truck bus motorcycle bike bicycle train airplane plane aircraft ship boat spaceship tank house castle "
    "tower building church bridge statue tree flower rose mushroom apple cake pizza cup mug bottle teapot vase lamp "
    "chair sofa table book backpack bag ball balls toy doll teddy plushie watch clock guitar piano sword gun shield "
    "star moon sun cube box"
)
"""Nouns of subjects of all kinds."""

FAMILY = {
    **dict.fromkeys(("husband", "dad", "father", "boyfriend", "brother", "son", "uncle", "grandpa"), ("man", "boy")),
    **dict.fromkeys(
        ("wife", "mom", "mum", "mother", "girlfriend", "sister", "daughter", "aunt", "grandma"), ("woman", "girl")
    ),
}
"""Parts of names of LoRAs of people, and the nouns that a prompt has for them."""

NO_PARTS = _set(
    "lora loras locon loha lokr lycoris lyco dora sd sd1 sd15 sd1.5 sdv1 sd21 sdxl xl ilxl il illu illustrious "
    "illustriousxl illustriousxlv01 noob noobai noobxl pony ponyxl pdxl pdv6 flux flux1 dev schnell v pruned fp16 "
    "fp32 bf16 fp8 safetensors epoch ep step steps rank dim by the of and for final test new model ver version "
    "full mini char character characters alpha beta concept my"
)
"""Parts of names that say nothing about the subject: formats, models, versions."""

MODIFIERS = _set(
    "a an the long short big small large little tiny huge tall old young new red blue green yellow black white "
    "brown gray grey orange purple pink golden gold silver blonde blond dark light bright pale cute pretty "
    "beautiful sexy hot cool good best very super high low open closed single one two three first second wet dry "
    "clean dirty simple deep soft hard full half day night summer winter spring autumn street city park scene "
    "portrait view close wide shot"
)
"""Words that are too general to be a subject's name alone."""

GENERAL = _phrases(
    "looking at viewer|looking at another|looking away|looking back|from side|from behind|from above|from below|"
    "full body|full-body|upper body|lower body|cowboy shot|close-up|close up|closeup|wide shot|depth of field|"
    "blurry background|blurry|simple background|white background|grey background|black background|"
    "transparent background|gradient background|outdoors|indoors|standing|sitting|lying|kneeling|walking|running|"
    "holding hands|hand on hip|arms up|open mouth|closed mouth|closed eyes|smile|smiling|grin|blush|frown|serious|"
    "realistic|photorealistic|photo|portrait|monochrome|greyscale|day|night|sunset|sunlight|city|street|park|"
    "forest|sky|blue sky|cloud|clouds|water|beach|tree|grass|flower|bare shoulders|cleavage|collarbone|navel|"
    "midriff|sleeveless|long sleeves|short sleeves|detached sleeves|puffy sleeves|multicolored hair|gradient hair|"
    "weapon|sword|holding|signature|watermark|text|artist name|english text|copyright name|official art|parody|"
    "cosplay|male focus|virtual youtuber|hair between eyes|hair ornament|data|img|image|images|dataset|train|"
    "dark theme|figure|negative space|figurine|style|anime|comic|realism|character|person|people|art|background|"
    "scene|view|shot"
)
"""Training tags that describe a picture, not a subject."""

COUNT = re.compile(
    r"(?:\d+\+?|multiple|one|two|three|four|several|many)[ _]?"
    r"(?:girl|boy|man|men|woman|women|guy|other|human|character|people|person|female|male)s?"
)
"""A count of persons: "2girls", "1 boy"."""

QUALITY = re.compile(
    r"score[ _]\d+(?:[ _]up)?|rating[ _:]\w+|source[ _]\w+|"
    r"(?:very )?(?:absurd|high|low|normal|best|worst|good|great|medium|amazing|top|ultra|highest|perfect)"
    r"[ _-]?(?:res|quality|resolution|details?|aesthetic|shadow|lighting)|masterpiece|"
    r"(?:extremely |highly |ultra |insanely )?(?:detailed|intricate)(?: details?| cg)?|newest|recent|very aesthetic|"
    r"absurdres|highres|[248]k|\d+mm|u?hd|hdr|raw|raw photo|rawphoto|cg|unity|wallpaper|safe|sensitive|questionable|"
    r"explicit|general|nsfw|sfw|solo|solo focus|solo female|solo male|duo|trio|group|couple|dslr|film grain|"
    r"sharp focus|professional lighting|cinematic lighting|volumetric lighting|trending on artstation|award winning|"
    r"photograph|photo"
)
"""Quality, rating, score and count words that are no subject."""

SEVERAL = re.compile(
    r"(?<![\w.])(?:[2-9]|[1-9]\d|multiple|two|three|four|five|several|both)\+?[ _]?"
    r"(?:girl|boy|man|men|woman|women|guy|other|human|character|people|person|female|male|friend|sister|brother|cat|dog)s?"
    r"(?!\w)|(?<!\w)(?:duo|trio|couple|twins|together|siblings|sisters|brothers|friends|yuri|yaoi|hetero)(?!\w)"
)
"""A prompt that asks for several subjects."""

ONE_EACH = tuple(
    re.compile(rf"(?<!\w)1[ _]?{kind}(?!\w)") for kind in ("(?:girl|woman|female)", "(?:boy|man|guy|male)")
)
"""Both of them in a prompt ask for two persons."""

VERBS = _set(
    "is are was were has have had stands stand stood sits sit sat walks walk walked runs run ran holds hold held "
    "wears wear wore wearing dressed seated looks look looked lies lay smiles smile rides ride rode eats drinks "
    "plays watches faces fights hugs kisses carries chases sleeps jumps flies swims leans lean leaned reads "
    "speaks talks shakes hands who that which while when as because where whose"
)
"""A subject ends before one of these, unless it begins with it."""

OBJECT_VERBS = _set(
    "hugging holding wearing riding chasing eating drinking kissing carrying fighting touching watching facing "
    "petting pulling pushing throwing catching playing reading using"
)
"""Verb forms that end a subject even before a noun: "girl hugging bear"."""

NO_VERBS = _set(
    "king ring wing thing string spring wedding building painting drawing clothing ceiling earring viking darling "
    "lightning pudding duckling sibling being evening morning sterling herring sling swing starling gosling "
    "dumpling ming ding wang ling hundred speed steed breed seaweed kindred newlywed biped moped centipede"
)
"""Nouns that end in "ing" or "ed"."""

PREPOSITIONS = _set(
    "to by for from into onto over through inside outside against around during without of off up down out across "
    "along towards toward like in on at with near under behind above below between beside next and or but happily "
    "quietly loudly quickly slowly together his her their its my your a an the"
)
"""What follows a verb form that ends a subject: "dog sitting on"."""

PICTURES = _set(
    "photo photograph picture image portrait painting drawing illustration render closeup close-up shot view scene "
    "selfie headshot snapshot sketch"
)
"""What stands before "of" and a subject: "photo of"."""

REGIONS = _set("ADDCOL ADDROW ADDCOMM ADDBASE")
"""Regional Prompter's words, in capitals."""
