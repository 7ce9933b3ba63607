"""BLIP-2 (arXiv:2301.12597) as a captioning process: `python -m gen_jax.data.prepare.blip2`.

`caption_process` starts it and has its protocol. This is the only module that imports PyTorch, and
no other module imports this one.
"""

from typing import Any

from gen_jax.common.errors import UserError
from gen_jax.data.prepare.caption_process import Describe, Image, serve


def load(settings: dict[str, Any]) -> tuple[str, Describe]:
    """Loads a model and its processor.

    Args:
      settings: `model` (folder, or name on the Hugging Face Hub), `prefix` (text that each
        caption continues), `num_beams`, `top_p` (0 for beam search, else nucleus sampling) and
        `max_new_tokens`.

    Returns:
      Name of the device, and a function of images and seeds that returns their continuations.

    Raises:
      UserError: There is no such model, or it is not a BLIP-2.
    """
    import torch
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    name = settings["model"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Half precision is as the weights were published; processors compute slowly in it.
    dtype = torch.float16 if device == "cuda" else torch.float32
    try:
        processor = Blip2Processor.from_pretrained(name)
        model = Blip2ForConditionalGeneration.from_pretrained(name)
    except Exception as error:  # hub, network and format errors of many types
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: cannot be loaded as a BLIP-2 model: {reason}") from error
    model = model.to(device=device, dtype=dtype).eval()
    options = {"max_new_tokens": settings["max_new_tokens"]}
    if settings["top_p"] > 0:
        options |= {"do_sample": True, "top_p": settings["top_p"], "num_beams": 1}
    else:
        options |= {"do_sample": False, "num_beams": settings["num_beams"]}

    def generate(images: list[Image]) -> list[str]:
        text = [settings["prefix"]] * len(images) if settings["prefix"] else None
        inputs = processor(images=images, text=text, return_tensors="pt")
        inputs = inputs.to(device, dtype)
        with torch.inference_mode():
            tokens = model.generate(**inputs, **options)
        # Some releases return the prompt before what they generate.
        prompt = inputs.get("input_ids")
        if prompt is not None and tokens.shape[1] > prompt.shape[1]:
            length = prompt.shape[1]
            if torch.equal(tokens[:, :length], prompt):
                tokens = tokens[:, length:]
        return processor.batch_decode(tokens, skip_special_tokens=True)

    def describe(images: list[Image], seeds: list[int]) -> list[str]:
        if settings["top_p"] <= 0:
            return generate(images)
        # One at a time: a sampled caption depends on its own seed and on no other image.
        texts = []
        for image, seed in zip(images, seeds, strict=True):
            torch.manual_seed(seed)
            texts += generate([image])
        return texts

    return device, describe


if __name__ == "__main__":
    serve(load)
