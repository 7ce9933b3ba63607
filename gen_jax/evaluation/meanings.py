"""What each metric of an evaluator means, and which way is good; reports show both.

The same name may mean two things: `probe_accuracy` is how often samples show what they should for
`adjectives`, and how far the judge can be trusted for `prompt_accuracy`. So each evaluator has a
table of its own, by its name in `evaluation.EVALUATORS`.
"""

import dataclasses
import re
from collections.abc import Mapping

HIGHER, LOWER = "higher", "lower"


@dataclasses.dataclass(frozen=True)
class Meaning:
    """One metric in words.

    Attributes:
      text: What it measures, in a sentence. In the tables, a template of `re.Match.expand`.
      good: `HIGHER`, `LOWER` or words such as "near 1"; "" for a value that others compare with.
    """

    text: str
    good: str = ""


_PAIRS = {
    "psnr": Meaning("Peak signal-to-noise ratio to the original images, in dB.", HIGHER),
    "ssim": Meaning("Structural similarity to the original images, at most 1.", HIGHER),
    "lpips": Meaning("Perceptual distance to the original images (LPIPS).", LOWER),
}
_SETS = {
    "fd": Meaning("Fréchet distance between the features of samples and of real images.", LOWER),
    "kid": Meaning("Kernel distance between the features of samples and of real images.", LOWER),
    "precision": Meaning("Share of samples that lie among the real images (fidelity).", HIGHER),
    "recall": Meaning("Share of real images that lie among the samples (coverage).", HIGHER),
    "density": Meaning("How densely real images surround the samples; about 1 for real.", HIGHER),
    "coverage": Meaning("Share of real images that have a sample near them.", HIGHER),
}
_RECONSTRUCTED = {
    **_PAIRS,
    "rfd": Meaning("Fréchet distance between features of reconstructions and originals.", LOWER),
    "rkid": Meaning("Kernel distance between features of reconstructions and originals.", LOWER),
}
# The notes of these metrics (`controls.NOTES`) say more.
_SHUFFLED = Meaning("Control: the score under other prompts.", "at most chance")
_EMPTY = Meaning("Control: the score under the empty prompt.", "below the score")
_CHANCE = Meaning("What a model that ignores its prompts would score.")
_FACES_FOUND = "in which a detector finds a face."

_MEANINGS: dict[str, dict[str, Meaning]] = {
    "reconstruction": _PAIRS,
    "first_stage": _PAIRS,
    "captioned_images": {
        **_PAIRS,
        "cider": Meaning("CIDEr-D of generated captions of held-out images, 0 to 10.", HIGHER),
        "cider_nearest": Meaning("Control: CIDEr-D of the nearest training image's caption."),
        "cider_nearest_pixels": Meaning("Control: the same, nearest by pixels."),
        "cider_mode": Meaning("Control: CIDEr-D of the most frequent training caption."),
        "cider_minus_nearest": Meaning(
            "CIDEr-D of generated captions less that of the nearest image's.", HIGHER
        ),
        "bleu4": Meaning("Corpus BLEU-4 of the same captions, at most 1.", HIGHER),
        "exact_words": Meaning("Share of the true caption's words that are named.", HIGHER),
        "exact_words_nearest": Meaning("Control: the same for the nearest image's caption."),
        "r_at_10_chance": Meaning("What random embeddings would score."),
        r"r_at_(\d+)_image_to_text": Meaning(
            r"Share of held-out images whose caption is among the \1 nearest.", HIGHER
        ),
        r"r_at_(\d+)_text_to_image": Meaning(
            r"Share of held-out captions whose image is among the \1 nearest.", HIGHER
        ),
    },
    "captioned_samples": {
        "kid_prior": Meaning("Kernel distance of samples of seeds to reconstructions.", LOWER),
        "kid_mixture": Meaning("Control: the same with a Gaussian mixture as the prior."),
        "kid_normal": Meaning("Control: the same with noise as latents."),
        "kid_prior_minus_mixture": Meaning("The first less the second.", LOWER),
        "coherence": Meaning(
            "Share of sampled captions' words that a classifier names for their images.", HIGHER
        ),
        "coherence_shuffled": Meaning("Control: the same with captions of other samples."),
        "coherence_p_value": Meaning("Probability of this coherence by chance.", LOWER),
        "loop_rate": Meaning("Share of sampled captions that repeat three words in a row.", LOWER),
        "distinct_captions": Meaning("Share of sampled captions that differ.", HIGHER),
        "perplexity": Meaning("Trigram perplexity of sampled captions per word.", "near real"),
        "perplexity_real": Meaning("Trigram perplexity of real captions per word."),
        "blank": Meaning("Share of sampled images that show nothing.", LOWER),
    },
    "codes": {
        **_RECONSTRUCTED,
        "usage": Meaning("Share of the codebook that occurs in held-out images.", HIGHER),
        "perplexity": Meaning("Number of codes that the images use evenly, in effect.", HIGHER),
    },
    "detail": {
        **_RECONSTRUCTED,
        "contrast": Meaning("Mean step between neighboring pixels over the originals'.", "near 1"),
    },
    "adjectives": {
        "adjective_accuracy(/.*)?": Meaning(
            "Share of samples that have more of what an adjective means than samples of its "
            "opposite by the same seeds; 0.5 if the text is ignored.",
            HIGHER,
        ),
        "paraphrase_accuracy(/.*)?": Meaning(
            "Accuracy of adjectives that no caption of the training images had.", HIGHER
        ),
        "probe_accuracy(/.*)?": Meaning(
            "Accuracy of adjectives, judged by a probe on features, not by pixels.", HIGHER
        ),
        "(adjective|probe)_accuracy_shuffled": _SHUFFLED,
        "(adjective|probe)_accuracy_empty": _EMPTY,
        "probe_held_out": Meaning("Share of real images that the probes judge right.", HIGHER),
    },
    "art_samples": {
        **_SETS,
        "kid_reconstructions": Meaning("Kernel distance of reconstructions: what codes allow."),
        "kid_random": Meaning("Kernel distance of images of random codes: the worst case."),
        "kid_held_out": Meaning("Kernel distance of held-out images: what new images have."),
        "kid_over_random": Meaning("Distance of samples over that of random codes.", LOWER),
        "kid_over_reconstructions": Meaning(
            "Distance of samples over that of reconstructions; 1 is what codes allow.", LOWER
        ),
        "diversity": Meaning(
            "Number of samples that differ, in effect (Vendi score).", "near diversity_real"
        ),
        "diversity_real": Meaning("Number of real images that differ, in effect."),
    },
    "class_retrieval": {
        "retrieval": Meaning("Share of samples whose prompt's class is among the nearest.", HIGHER),
        "retrieval_shuffled": _SHUFFLED,
        "retrieval_empty": _EMPTY,
        "retrieval_chance": _CHANCE,
        "retrieval_reconstructed": Meaning("Retrieval of reconstructions: what codes allow."),
        "retrieval_real": Meaning("Retrieval of held-out images."),
    },
    "faces": {
        **_SETS,
        "diversity": Meaning("Standard deviation of samples over that of real images.", "near 1"),
        "detection_rate": Meaning(f"Share of samples {_FACES_FOUND}", HIGHER),
        "detection_rate_real": Meaning(f"Share of real images {_FACES_FOUND}"),
        "detection_rate_asked": Meaning(f"Share of samples of prompts {_FACES_FOUND}", HIGHER),
        "anatomy": Meaning("Share of samples whose five points lie where real faces' do.", HIGHER),
        "attribute_accuracy/.*": Meaning(
            "Share of samples that a probe classifies as their prompt says.", HIGHER
        ),
        "attribute_accuracy_shuffled/.*": _SHUFFLED,
        "attribute_accuracy_empty/.*": _EMPTY,
        "attribute_chance/.*": _CHANCE,
        "attribute_real/.*": Meaning("Share of real faces that the probe classifies right."),
    },
    "interpolation": {
        "path_length": Meaning("Sum of the steps between two seeds' images.", LOWER),
        "largest_step": Meaning("Largest step over the mean step of a path, mean of paths.", LOWER),
        "largest_step_worst": Meaning("Largest step over the mean step, of the worst path.", LOWER),
        "perceptual_path_length": Meaning(
            "Perceptual distance of images a small step of the latent apart.", LOWER
        ),
        "path_detection_rate": Meaning(f"Share of frames {_FACES_FOUND}", HIGHER),
    },
    "memorisation": {
        "nearest_ratio": Meaning(
            "Median distance of samples to the nearest training image over that of held-out "
            "images; well below 1 for copies.",
            "near 1 or above",
        ),
        "nearest_chance": Meaning(
            "Probability that samples come this near by chance; below 0.01 for copies.", HIGHER
        ),
        "copies": Meaning(
            "Share of samples nearer to a training image than all but 1% of held-out ones.",
            "0.01 or less",
        ),
    },
    "image_quality": {
        **_PAIRS,
        "(clean_)?fid": Meaning("Fréchet distance between Inception features (FID).", LOWER),
        "(clean_)?kid": Meaning("Kernel distance between Inception features (KID).", LOWER),
        "fd(_.+)?": _SETS["fd"],
        "kd(_.+)?": _SETS["kid"],
        "cmmd(_unbiased)?": Meaning("Maximum mean discrepancy of CLIP features.", LOWER),
        "clip_score": Meaning("Agreement of samples with their captions (CLIPScore).", HIGHER),
        "clip_cosine": Meaning("Mean cosine between CLIP's image and text.", HIGHER),
        **{f"{k}(_.+)?": _SETS[k] for k in ("precision", "recall", "density", "coverage")},
        "vendi(_.+)?": Meaning("Number of samples that differ, in effect (Vendi score).", HIGHER),
        "diversity": Meaning("Mean perceptual distance between different samples.", HIGHER),
    },
    "error_by_time": {
        r"mse_t\d+": Meaning(
            "Error of the denoiser in one part of the time range, t0 with the least noise.", LOWER
        ),
    },
    "instructed": {
        "psnr_matching(_.*)?": Meaning("PSNR to what the instruction asks for, in dB.", HIGHER),
        "psnr_(empty|wrong|shuffled)(_.*)?": Meaning(
            "PSNR to the same target under no, the opposite or another image's instruction.",
            "below psnr_matching",
        ),
        "psnr_degraded": Meaning("PSNR of the untouched input, in dB."),
    },
    "generative_restoration": {
        **_PAIRS,
        "kid": _SETS["kid"],
        "kid_(low|high)": Meaning("End of the 95% interval of `kid`."),
        "consistency": Meaning(
            "PSNR in dB of means over 4x4 pixels against those of the degraded image.", HIGHER
        ),
        "seed_std": Meaning("Standard deviation over seeds, in 8-bit units."),
        "(.*)_first_stage": Meaning(r"The same as \1, of the restorer's images."),
    },
    "restoration_error": {
        "spearman": Meaning("Rank correlation of the expected with the true error.", HIGHER),
        "spearman_(edit|gradient)": Meaning(
            r"The same of a baseline, the \1 of the restored image.", "below spearman"
        ),
        "ratio": Meaning("Mean expected over mean true error.", "near 1"),
        "nll": Meaning("Negative log-likelihood of the errors (Laplace).", LOWER),
    },
    "restored_crops": {
        **_PAIRS,
        "psnr_degraded": Meaning("PSNR of the degraded input, in dB."),
        "ssim_degraded": Meaning("SSIM of the degraded input."),
        ".*_error": Meaning("Mean error of the estimated degradation, in its own unit.", LOWER),
        "gate_severity": Meaning(
            "Rank correlation of the gate with the distance to the clean image.", HIGHER
        ),
    },
    "pictogram_accuracy": {
        "subject_accuracy": Meaning(
            "Share of samples whose gray shape a probe names as the prompt's subject.", HIGHER
        ),
        "subject_accuracy_real": Meaning(
            "The same of the real images with these captions: the most to be expected."
        ),
        "heldout_([a-z]+)_accuracy": Meaning(
            r"Share of samples of pairs of subject and color unseen in training that show the "
            r"prompt's \1.",
            HIGHER,
        ),
        "([a-z]+)_accuracy_real": Meaning(r"Share of real images that show their caption's \1."),
        "prompt_accuracy": Meaning("The same as subject_accuracy.", HIGHER),
        "([a-z]+)_accuracy": Meaning(r"Share of samples that show the prompt's \1.", HIGHER),
        "prompt_accuracy_shuffled": _SHUFFLED,
        "prompt_accuracy_empty": _EMPTY,
        "prompt_chance": _CHANCE,
        "kid": Meaning("Kernel distance to unseen real images, features of dino_tiny.", LOWER),
        "kid_real": Meaning("Kernel distance between two sets of unseen real images."),
    },
    "samples": _SETS,
    "shapes_accuracy": {
        "reader_accuracy": Meaning("Share of real scenes that the reader of pixels gets right."),
        "((multi|heldout)_)?all_accuracy": Meaning(
            "Share of samples that show everything that their prompt states.", HIGHER
        ),
        "(prompt|pair)_accuracy": Meaning("Share of objects of the right color and shape.", HIGHER),
        r"multi_([a-z]+)_accuracy": Meaning(
            r"Share of samples of several objects that show the prompt's \1.", HIGHER
        ),
        r"heldout_([a-z]+)_accuracy": Meaning(
            r"Share of objects unseen in training (color and shape) that show the prompt's \1.",
            HIGHER,
        ),
        r"([a-z]+)_accuracy": Meaning(r"Share of objects that show the prompt's \1.", HIGHER),
        "[a-z]+_accuracy_shuffled": _SHUFFLED,
        "[a-z]+_accuracy_empty": _EMPTY,
        "[a-z]+_chance": _CHANCE,
    },
    "prompt_robustness": {
        "wording_accuracy/both": Meaning(
            "A word and its opposite together: neither should win.", "near 0.5"
        ),
        "wording_accuracy/.*": Meaning("Accuracy of adjectives in other wordings.", HIGHER),
    },
    "prompt_accuracy": {
        **_SETS,
        "prompt_accuracy": Meaning("Share of samples that a probe classifies as prompted.", HIGHER),
        "prompt_accuracy_shuffled": _SHUFFLED,
        "prompt_accuracy_empty": _EMPTY,
        "prompt_chance": _CHANCE,
        "probe_accuracy": Meaning("Share of real images that the probe classifies right."),
    },
    "change": {
        "change_f1": Meaning("F1 of changed pixels on held-out pairs.", HIGHER),
        "change_iou": Meaning("Intersection over union of changed pixels.", HIGHER),
        "change_f1_constant": Meaning("Control: F1 if all pixels are called changed."),
        "false_alarm_rate": Meaning(
            "Share of unchanged pairs with more than 0.5% of the pixels called changed.", LOWER
        ),
    },
    "landmarks": {
        "nme": Meaning("Mean distance to the true points, over that between the eyes.", LOWER),
        "failure_rate": Meaning("Share of faces whose mean distance is above 8%.", LOWER),
        "auc": Meaning("Area under the distribution of errors up to 8%, 1 without errors.", HIGHER),
        "nme_constant": Meaning("Control: nme of the mean face."),
    },
    "plates": {
        "plate_exact": Meaning("Share of plates that are read without a mistake.", HIGHER),
        r"plate_exact_(\d+)_(\d+)": Meaning(
            r"The same of plates seen at a height of \1 to \2 pixels.", HIGHER
        ),
        "plate_char": Meaning(
            "One minus the edit distance over the number of true characters.", HIGHER
        ),
        "plate_char_constant": Meaning("Control: plate_char of one text for all plates."),
        "ece": Meaning("Calibration error of the confidence: mean gap to the share right.", LOWER),
        r"coverage_at_(\d+)": Meaning(
            r"Share of plates that are left if unsure ones are refused until \1% are right.",
            HIGHER,
        ),
    },
    "segmentation": {
        "miou": Meaning(
            "Intersection over union of held-out label maps, mean over classes.", HIGHER
        ),
        "miou_constant": Meaning("Control: mIoU of the most frequent class everywhere."),
        r"iou_(\d+)": Meaning(r"Intersection over union of class \1.", HIGHER),
        "boundary_f": Meaning(
            "F-measure of boundary pixels within 0.75% of the diagonal (a pixel at least).", HIGHER
        ),
    },
    "validation_loss": {
        "validation_loss": Meaning("Training loss on held-out images.", LOWER),
        "validation_(.+)": Meaning(r"The training metric \1 on held-out images."),
    },
    "word_attention": {
        "attention_on_words": Meaning("Share of the attention that goes to words.", HIGHER),
    },
    "word_margins": {
        "swapped_margin": Meaning(
            "Nats per code by which the true caption is likelier than one with an opposite word.",
            HIGHER,
        ),
        "swapped_accuracy": Meaning(
            "Share of images whose true caption is the likelier one; 0.5 if text is ignored.",
            HIGHER,
        ),
    },
}

# Part of a name -> what it adds to the meaning of the name without it.
_PARTS = {
    "_untrained": " Untrained features: compare within one data set alone.",
    "_decoded": " Without the drawn detail, for comparison.",
}


def of(evaluator: str, metric: str) -> Meaning | None:
    """Returns the meaning of a metric, None if it is unknown.

    Args:
      evaluator: Name of the evaluator in `evaluation.EVALUATORS`.
      metric: Name of the metric, without the prefix of the stage.
    """
    for part, text in _PARTS.items():
        if part in metric and (whole := of(evaluator, metric.replace(part, "", 1))):
            return Meaning(whole.text + text, "" if part == "_decoded" else whole.good)
    for end, text in (("_low", "Lower"), ("_high", "Upper")):
        if (name := metric.removesuffix(end)) != metric and of(evaluator, name):
            return Meaning(f"{text} end of the 95% interval of {name}.")
    for pattern, meaning in _MEANINGS.get(evaluator, {}).items():
        if match := re.fullmatch(pattern, metric):
            return Meaning(match.expand(meaning.text), meaning.good)
    return None


def of_all(evaluator: str, metrics: Mapping[str, float]) -> dict[str, Meaning]:
    """Returns name -> meaning of those metrics of an evaluator that have one."""
    pairs = ((name, of(evaluator, name)) for name in metrics)
    return {name: meaning for name, meaning in pairs if meaning is not None}
