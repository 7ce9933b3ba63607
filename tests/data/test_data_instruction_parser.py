"""Instructions are read as meant, or a note names what has no effect."""

import pytest

from gen_jax.data.text import instruction_parser, instruction_tokens, instructions
from gen_jax.data.text.instruction_parser import parse
from gen_jax.data.text.instruction_words import DEGRADATIONS
from gen_jax.pipelines import restore_instruction
from tests.data import held_out_instructions as held_out

ASKED = {
    instructions.RESTORE: DEGRADATIONS,
    instructions.DENOISE: ("noise",),
    instructions.SHARPEN: ("blur",),
    instructions.DECOMPRESS: ("jpeg",),
    instructions.KEEP: (),
}


def letters(instruction):
    return "".join(kind[0] for kind in parse(instruction).remove)


def test_held_out_instructions_are_read_as_meant():
    assert len(held_out.HELD_OUT) >= 100
    assert len(held_out.NEGATED) + len(held_out.WITHOUT_EFFECT) >= 40
    wrong = {s: letters(s) for s, meant in held_out.HELD_OUT.items() if letters(s) != meant}
    assert not wrong
    for instruction in held_out.WITHOUT_EFFECT:
        assert parse(instruction).notes, f"{instruction!r} has no effect, and no note states it"


def test_sentences_of_the_training_grammar_are_read_as_they_were_meant():
    for kind, sentences in instructions.SENTENCES.items():
        assert {parse(s).remove for s in sentences} == {ASKED[kind]}, kind
    trained = set(instructions.vocabulary())
    assert set(restore_instruction.SENTENCES) <= trained
    for remove in ("n", "b", "j", "nb", "nj", "bj", "nbj"):
        named = tuple(kind for kind in DEGRADATIONS if kind[0] in remove)
        asked = instruction_parser.Understood(named)
        given = dict.fromkeys(("sigma", "shot", "blur", "scale", "jpeg"), 1.0)
        sentence, vector = restore_instruction.conditions(asked, given, {"scale": 1.0})
        assert parse(sentence).remove in (named, named[:1], DEGRADATIONS)
        assert vector["sigma"] == vector["shot"] == vector["scale"] == 1.0
        assert ("b" in remove or vector["blur"] == 0.0) and vector.keys() == given.keys()


@pytest.mark.parametrize(
    "instruction,summary,note",
    [
        ("", "remove everything", ""),
        ("denoise, keep the blur", "remove noise, keep blur", ""),
        ("reduce the noise by 30%", "remove noise by 30%", ""),
        ("sharpen, but not too much", "remove blur by 50%", ""),
        ("remove the noise, keep the noise", "keep noise", "contradictory: noise"),
        ("restore it, leave it alone", "change nothing", "contradictory"),
        ("make it brighter", "change nothing", "brightness and contrast ('bright')"),
        ("entrauschen", "change nothing", "'entrauschen'; instructions are read in English"),
        ("blur it", "change nothing", "more blur"),
        ("denoise fully, sharpen slightly", "remove noise and blur", "different amounts"),
        ("???", "change nothing", "stays unchanged"),
        ("do not remove the noise " + "at all " * 50, "keep noise", "stays unchanged"),
        ("please " * 100 + "remove the JPEG artifacts", "remove JPEG artifacts", ""),
    ],
)
def test_summaries_amounts_and_notes(instruction, summary, note):
    understood = parse(instruction)
    assert understood.summary == summary
    assert note in "; ".join(understood.notes) and bool(note) == bool(understood.notes)


def test_words_are_in_one_form_and_phrases_are_replaced():
    clauses = list(instruction_tokens.clauses("Don’t de-noise it; get rid of JPEG-artefacts"))
    assert [clause.tokens for clause in clauses] == [
        ["do", "not", "denoise", "it"],
        ["remove", "jpeg", "artefact"],
    ]
