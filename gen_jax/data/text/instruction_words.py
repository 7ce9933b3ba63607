"""Words and phrases of instructions to a restorer, for `instruction_parser`.

Verbs are listed in their base form: the parser also tries a word without its English inflection.
"""

from collections.abc import Mapping


def as_set(text: str) -> frozenset[str]:
    """Returns the words of a text."""
    return frozenset(text.split())


NOISE, BLUR, JPEG = DEGRADATIONS = ("noise", "blur", "jpeg")
"""What the model removes separately. Low resolution belongs to blur, as in its training."""

PHRASES: Mapping[str, str] = {
    "get rid of": "remove",
    "getting rid of": "remove",
    "do away with": "remove",
    "take care of": "remove",
    "deal with": "remove",
    "tackle": "remove",
    "take out": "remove",
    "take away": "remove",
    "tone down": "remove",
    "cut down": "remove",
    "smooth out": "remove",
    "smooth away": "remove",
    "salt and pepper": "noise",
    "high iso": "noisy",
    "low light": "noisy",
    "at night": "noisy",
    "small photo": "lowres",
    "small picture": "lowres",
    "small image": "lowres",
    "low resolution": "lowres",
    "low res": "lowres",
    "low quality jpeg": "jpeg",
    "high resolution": "sharp",
    "higher resolution": "sharp",
    "high res": "sharp",
    "hi res": "sharp",
    "high definition": "sharp",
    "out of focus": "blurry",
    "in focus": "sharp",
    "camera shake": "blur",
    "noise free": "noiseless",
    "grain free": "noiseless",
    "clean up": "clean",
    "bring back": "more",
    "bring out": "more",
    "as is": "",
    "as it is": "",
    "as they are": "",
    "the way it is": "",
    "as good as possible": "better",
    "as much as possible": "fully",
    "all the way": "fully",
    "a lot": "fully",
    "most of": "mostly",
    "some of": "half",
    "a little": "slightly",
    "a bit": "slightly",
    "a touch": "slightly",
    "too much": "overdo",
    "too strong": "overdo",
    "too strongly": "overdo",
    "too hard": "overdo",
    "too far": "overdo",
    "go easy on": "slightly",
    "hold on to": "keep",
    "hang on to": "keep",
    "hold onto": "keep",
    "stick with": "keep",
    "everything else": "rest",
    "anything else": "rest",
    "nothing else": "rest",
    "all else": "rest",
    "nothing": "keep everything",
    "no changes": "keep everything",
    "no change": "keep everything",
    "not only": "",
    "not just": "",
    "not merely": "",
    "not forget to": "",
    "no need to": "not",
    "no need for": "not",
    "there is no": "no",
    "rather than": "not",
    "instead of": "not",
    "as opposed to": "not",
    "apart from": "except",
    "aside from": "except",
    "other than": "except",
    "except for": "except",
    "all but": "everything except",
    "everything but": "everything except",
    "anything but": "everything except",
}
"""Words in a row -> what they are read as. Longer phrases come first."""

FAULTS: Mapping[str, str] = {
    "noise": NOISE,
    "grain": NOISE,
    "graininess": NOISE,
    "noisiness": NOISE,
    "speckle": NOISE,
    "speck": NOISE,
    "static": NOISE,
    "blur": BLUR,
    "blurriness": BLUR,
    "blurring": BLUR,
    "softness": BLUR,
    "haziness": BLUR,
    "defocus": BLUR,
    "shake": BLUR,
    "pixelation": BLUR,
    "jpeg": JPEG,
    "jpg": JPEG,
    "webp": JPEG,
    "compression": JPEG,
    "codec": JPEG,
    "artifact": JPEG,
    "artefact": JPEG,
    "block": JPEG,
    "blocking": JPEG,
    "blockiness": JPEG,
    "macroblock": JPEG,
    "macroblocking": JPEG,
    "mosquito": JPEG,
    "ringing": JPEG,
}
"""Noun -> degradation."""

DESCRIPTIONS: Mapping[str, str] = {
    "noisy": NOISE,
    "grainy": NOISE,
    "speckled": NOISE,
    "blurred": BLUR,
    "blurry": BLUR,
    "soft": BLUR,
    "fuzzy": BLUR,
    "defocused": BLUR,
    "unsharp": BLUR,
    "unfocused": BLUR,
    "lowres": BLUR,
    "pixelated": BLUR,
    "blocky": JPEG,
    "compressed": JPEG,
    "overcompressed": JPEG,
}
"""Adjective for an image -> degradation."""

GOALS: Mapping[str, str] = {
    "sharp": BLUR,
    "sharpness": BLUR,
    "crisp": BLUR,
    "crispness": BLUR,
    "clear": BLUR,
    "clarity": BLUR,
    "detail": BLUR,
    "detailed": BLUR,
    "definition": BLUR,
    "resolution": BLUR,
    "focus": BLUR,
    "focused": BLUR,
    "edge": BLUR,
    "texture": BLUR,
    "noiseless": NOISE,
    "grainless": NOISE,
}
"""What an image has after a degradation is removed -> the degradation."""

ACTIONS: Mapping[str, str] = {
    "denoise": NOISE,
    "denoiser": NOISE,
    "degrain": NOISE,
    "despeckle": NOISE,
    "sharpen": BLUR,
    "resharpen": BLUR,
    "deblur": BLUR,
    "unblur": BLUR,
    "refocus": BLUR,
    "upscale": BLUR,
    "upsample": BLUR,
    "enlarge": BLUR,
    "superresolution": BLUR,
    "superresolve": BLUR,
    "deblock": JPEG,
    "dejpeg": JPEG,
    "decompress": JPEG,
    "uncompress": JPEG,
}
"""Verb that removes one degradation -> the degradation."""

REMOVE = as_set(
    "remove removal reduce reduction eliminate elimination erase suppress suppression drop kill "
    "lose undo strip wipe cut minimize minimise decrease lessen lower attenuate diminish filter "
    "less fewer gone away disappear vanish delete banish ditch"
)
"""Verbs and adverbs for a degradation that is to go."""

SEPARABLE = as_set("take get turn filter wipe pull bring cut tone smooth")
PARTICLES = as_set("out away off down")
"""Verbs that mean "remove" with one of these particles after their object."""

RESTORE = as_set(
    "restore restoration repair fix clean cleanup enhance enhancement improve improvement better "
    "correct correction rescue recover polish optimize optimise beautify new pristine perfect best "
    "quality mend heal treat good"
)
"""Verbs and adjectives for the degradation that they name, or for all if they name none."""

KEEP = as_set(
    "keep kept leave left preserve retain maintain spare ignore untouched unchanged alone intact "
    "stay remain respect save conserve fine ok okay intentional deliberate artistic tolerate "
    "accept"
)
"""Words for a degradation that is to stay."""

WISH = as_set("like love want enjoy prefer")
"""Verbs of a person: what is liked is kept, unless another verb says more."""

CHANGE = as_set("change touch alter modify affect edit mess process adjust tweak")
"""Verbs that mean "keep" if they are negated, and nothing definite otherwise."""

ADD = as_set("add increase introduce boost")
MORE = as_set("more extra")
"""Words that ask for more of a degradation, or of what its removal gives."""

BECOME = as_set("make get turn become render")
"""Verbs whose adjective says what the image is to be: "make it soft"."""

HARM = as_set(
    "soften softer smooth smoother smoothing blurrier compress pixelate degrade overdo oversharpen "
    "oversmooth overprocess destroy damage hurt ruin harm halo plastic waxy artificial"
)
"""What a restorer does not do, and what "without" and "do not" exclude with no effect."""

NEGATIONS = as_set("not never without avoid no except nor neither skip stop zero minus")
"""Words that reverse a request."""

ALL = as_set("everything all any damage defect degradation flaw imperfection problem issue fault")
"""Words for all degradations."""

REST = as_set("rest else other otherwise")
"""Words for what a request does not name."""

AMOUNTS: Mapping[str, float] = {
    "slightly": 0.5,
    "gently": 0.5,
    "lightly": 0.5,
    "subtly": 0.5,
    "mildly": 0.5,
    "moderately": 0.5,
    "partially": 0.5,
    "partly": 0.5,
    "somewhat": 0.5,
    "half": 0.5,
    "gentle": 0.5,
    "subtle": 0.5,
    "mild": 0.5,
    "slight": 0.5,
    "mostly": 0.75,
    "fully": 1.0,
    "completely": 1.0,
    "entirely": 1.0,
    "totally": 1.0,
    "strongly": 1.0,
    "heavily": 1.0,
    "aggressively": 1.0,
}
"""Adverb -> share of the change that is applied."""

UNSUPPORTED: Mapping[str, frozenset[str]] = {
    "brightness and contrast": as_set(
        "bright brighten brightness dark darken exposure exposed overexposed underexposed contrast "
        "hdr gamma shadow highlight lighten lighting vignette vignetting levels tone dehaze haze "
        "fog illumination"
    ),
    "color": as_set(
        "color colour colorize colourise colorise colourize recolor saturate saturation desaturate "
        "vibrant vibrance hue tint warm cool temperature balance sepia grayscale greyscale "
        "monochrome black white bw faded fade yellow yellowing red blue green"
    ),
    "scratches, stains and marks": as_set(
        "scratch scratchy crack tear torn crease fold stain spot dust dirt hair fingerprint mold "
        "watermark logo text caption date timestamp moire banding flare glare reflection"
    ),
    "what the image shows": as_set(
        "person people man woman child kid dog cat car tree building wall object tourist stranger "
        "smile wrinkle pimple acne blemish freckle glasses hat add_object replace swap paint "
        "draw cartoon anime style painting sketch"
    ),
    "parts of the image": as_set(
        "background foreground sky face eye skin mouth water grass corner center centre side top "
        "bottom region area subject bokeh"
    ),
    "shape and size": as_set(
        "crop rotate flip mirror straighten resize shrink downscale border frame perspective "
        "distortion horizon tilt aspect ratio"
    ),
}
"""What the model does not do -> words for it."""

FILLERS = as_set(
    "a an the this that these those it its my your our his her their i we you me us he she they "
    "of from in on at to for with by as into onto and or but so if is are was were be been being "
    "am has have had having can could may might must shall should will would ought need let lets "
    "photo photograph picture pic image img shot snapshot scan file one portrait landscape selfie "
    "photos scanned old please kindly thank thanks hi hello hey just only simply merely also too "
    "very much many really quite even still again now first then after before while when there "
    "here some every each both possible possibly bit lot way look looks looking appear appears "
    "seem seems make making made get getting give giving see want what which who how well yes yet "
    "however though although up down out off back over through x two twice three four times "
    "factor percent level amount kind sort thing things bad ugly awful terrible annoying visible "
    "heavy strong original natural digital film sensor chroma luminance luma lossy high low big "
    "small large little actual actually do does did doing go goes going take same own help ask "
    "asking such like than until enough nice nicely careful carefully sure taken nearly around "
    "about trace traces sign signs effect effects setting settings tool pass step result output "
    "input version camera lens motion gaussian traced caused due because use apply try run create "
    "think believe guess feel hope wish know tell find took stuff"
)
"""Words that change nothing."""
