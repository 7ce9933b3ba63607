"""Instructions that the parser's tables were not made from, and what each asks to remove.

Written after the tables, from what users may type. Letters: n noise, b blur, j JPEG artifacts.
On the first try 68 of the first 76 were right, and 27 of the 30 of `SECOND`, which were written
after the rules had been mended. What was added then are rules for kinds of phrases.
"""

PLAIN = {
    "Could you take the grain out of this scan of my parents' wedding?": "n",
    "this was shot at ISO 12800, please get the noise down": "n",
    "my old phone made everything blocky and smeared, please repair the blocking": "j",
    "clean it, sharpen it, de-block it": "nbj",
    "I'd love this to be crisper": "b",
    "there's a lot of chroma noise in here, please get rid of it": "n",
    "the picture is out of focus, can you rescue it?": "b",
    "de-noise and de-blur": "nb",
    "Denoise.": "n",
    "SHARPEN!!!": "b",
    "remove mosquito noise": "nj",
    "remove JPEG blocks, then sharpen slightly": "bj",
    "bring out more detail in the photo": "b",
    "noise reduction only": "n",
    "please apply some deblocking": "j",
    "reduce the noise by half": "n",
    "deblur the image as much as you can": "b",
    "Fix up this picture, it has been compressed to death": "nbj",
    "kill the grain, preserve the softness": "n",
    "eliminate compression artefacts but retain film grain": "j",
    "get rid of blur; the noise can stay": "b",
    "speckle removal": "n",
    "make it look less pixelated": "b",
    "I think the grain is ugly, remove it": "n",
    "it's grainy AND blurry - help!": "nb",
    "restore everything": "nbj",
    "repair this damaged photograph as well as you can": "nbj",
    "upscale to twice the size and denoise": "nb",
    "erase the speckles and leave the rest": "n",
    "undo the damage that WhatsApp's compression did": "j",
    "increase sharpness": "b",
    "Improve the picture but hold on to its grain": "bj",
    "remove noise, and remove blur, and remove the artifacts of compression from the image": "nbj",
    "I took this picture at a concert in a very dark hall with an old phone that has a tiny "
    "sensor, and now the noise is really distracting, so please remove it": "n",
}
"""Instructions that ask for something that the restorer does."""

NEGATED = {
    "Please don't get rid of the noise": "",
    "sharpen this, but under no circumstances remove the grain": "b",
    "never touch the grain": "",
    "no denoising please, only sharpening": "b",
    "remove the JPEG artifacts without smoothing the grain": "j",
    "do not deblur; denoise": "n",
    "you must not sharpen": "",
    "denoise it; I don't want it sharpened": "n",
    "fix everything except the blur": "nj",
    "leave noise in, take blur out": "b",
    "don't do any noise reduction": "",
    "restore this image without removing the film grain": "bj",
    "the grain is deliberate, so leave it. sharpen though": "b",
    "neither noise nor blur should be removed": "",
    "I would rather you did not sharpen, just remove the artifacts": "j",
    "deblock but don't denoise": "j",
    "skip the sharpening": "",
    "clean the picture up, minus the sharpening": "nj",
    "dont remove noise": "",
}
"""Instructions that exclude something."""

WITHOUT_EFFECT = {
    "make the colors pop": "",
    "brighten the shadows and remove noise": "n",
    "remove my ex from the photo": "",
    "turn this into a Van Gogh": "",
    "crop to a square": "",
    "whiten the teeth": "",
    "remove the tourists in the back and sharpen": "b",
    "colourise this black and white photo": "",
    "remove scratches and dust, denoise": "n",
    "swap the background": "",
    "bitte das Rauschen entfernen": "",
    "supprimer le bruit de l'image": "",
    "quita el ruido, por favor": "",
    "rimuovi il rumore": "",
    "ノイズを除去してください": "",
    "убери шум": "",
    "Bild schärfen": "",
    "remove the blur and the power lines": "b",
    "asdf qwer": "",
    "add some film grain": "",
    "soften the skin": "",
    "fix the white balance": "",
    "make it 4k 60fps": "",
}
"""Instructions of which a part, or all, is unsupported, unknown or in another language."""

HELD_OUT = {**PLAIN, **NEGATED, **WITHOUT_EFFECT}

SECOND = {
    "reduce image noise, please": "n",
    "can this be made sharp again?": "b",
    "too noisy": "n",
    "the jpeg compression is horrible, clean that up": "j",
    "give me a noise-free version": "n",
    "this needs deblurring badly": "b",
    "lower the noise level a bit": "n",
    "dehaze and denoise": "n",
    "super-resolution": "b",
    "remove compression noise": "nj",
    "fix the blurriness but the noise has to stay as it is": "b",
    "do not apply any sharpening, just take care of the noise": "n",
    "I don't mind the grain, fix the blur": "b",
    "clean the image but don't make it soft": "nbj",
    "keep the noise, keep the blur, keep the artifacts": "",
    "no artifacts, no blur, no noise": "nbj",
    "sharpen without introducing noise": "b",
    "without touching sharpness, reduce grain": "n",
    "everything should be restored apart from the grain": "bj",
    "please don't": "",
    "only remove artefacts, nothing more": "j",
    "enleve le flou": "",
    "make him smile": "",
    "sharpen the eyes": "",
    "remove red eye and noise": "n",
    "convert to png": "",
    "zmniejsz szum": "",
    "increase the noise": "",
    "darker, moodier, grainier": "",
    "denoise the background only": "",
}
"""A second set, written after the rules were mended for the first."""
HELD_OUT |= SECOND
