"""Notes on prompts that a model cannot read as they stand."""

from gen_jax.data.text.tokenizer import Tokenizer

_LISTED = 5


def short(prompt: str) -> str:
    """Returns a prompt in quotes, its beginning if it is long."""
    return repr(prompt) if len(prompt) <= 40 else f"{prompt[:40]!r}..."


def unknown_words(tokenizer: Tokenizer, prompt: str) -> str:
    """Returns a note on the words that have no token of their own, "" if all have one."""
    words = tokenizer.unknown_words(prompt)
    if not words:
        return ""
    listed = ", ".join(map(repr, words[:_LISTED])) + (", ..." if len(words) > _LISTED else "")
    return (
        f"the prompt {short(prompt)}: {listed}: not in the run's vocabulary of "
        f"{tokenizer.vocab_size} tokens; the model may not know it"
    )
