"""Rules that read which degradations an English instruction asks to remove, and which to keep.

A sentence is split into clauses. Each has one verb, stated or taken over from the clause before,
and may be negated. A clause that asks for something the restorer does not do has no effect.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from gen_jax.data.text import instruction_words as words
from gen_jax.data.text.instruction_tokens import KNOWN, Clause, clauses
from gen_jax.data.text.instruction_words import DEGRADATIONS

_REVERSED = ("except",)
_LISTED = 6  # unknown words that a note names


@dataclasses.dataclass(frozen=True)
class Understood:
    """What an instruction asks for.

    Attributes:
      remove: Degradations to remove, of `DEGRADATIONS` in their order.
      keep: Degradations that are named as to be kept.
      amount: Share of the change that is applied, 0 to 1.
      notes: Warnings on what has no effect, one phrase each.
    """

    remove: tuple[str, ...] = DEGRADATIONS
    keep: tuple[str, ...] = ()
    amount: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One phrase, such as "remove noise, keep blur"."""
        remove = "everything" if self.remove == DEGRADATIONS else _listed(self.remove)
        share = "" if self.amount == 1.0 else f" by {100 * self.amount:.0f}%"
        phrases = [f"remove {remove}{share}"] if self.remove else []
        phrases += [f"keep {_listed(self.keep)}"] if self.keep else []
        return ", ".join(phrases) or "change nothing"


EVERYTHING = Understood()
"""The meaning of an empty instruction."""


def parse(instruction: str) -> Understood:
    """Reads an instruction of any length.

    Only what is asked for is removed, so that an instruction which only says what to keep removes
    nothing. A degradation that is both to be removed and to be kept is kept.

    Args:
      instruction: English text; "" asks to remove everything.
    """
    if not instruction.strip():
        return EVERYTHING
    reading = _Reading()
    for clause in clauses(instruction):
        reading.add(clause)
    return reading.result()


class _Reading:
    """Collects what clauses ask for, one after the other."""

    def __init__(self):
        # (act, whether the degradations are named, degradations)
        self._requests: list[tuple[str, bool, tuple[str, ...]]] = []
        self._amounts: dict[str, float] = {}
        self._general_amount: float | None = None
        self._unknown: list[str] = []
        self._unsupported: dict[str, list[str]] = {}
        self._refused: list[str] = []
        self._pending: list[str] = []
        self._act, self._was_negated = "", False
        # What "it" may refer to, and whether the last clause only described the image.
        self._kinds: tuple[str, ...] = ()
        self._is_described = False

    def add(self, clause: Clause) -> None:
        """Adds what a clause asks for."""
        self._unknown += [w for w in clause.unknown if w not in self._unknown]
        if unsupported := clause.unsupported:
            for word, label in unsupported.items():
                self._unsupported.setdefault(label, []).append(word)
            self._act = ""
            return
        faults = clause.kinds(words.FAULTS)
        named = [*faults, *clause.kinds(words.DESCRIPTIONS)]
        goals, actions = clause.kinds(words.GOALS), clause.kinds(words.ACTIONS)
        negations = sum(token in words.NEGATIONS for token in clause.tokens)
        is_negated = negations % 2 == 1
        if is_negated and clause.has(_EXCESS):
            self._set_amount(_GENTLY)
            return
        amount = self._amount_of(clause)
        act, kinds = self._verb(clause, faults, named, goals, actions)
        if named and act in ("", "pending"):
            self._kinds, self._is_described = tuple(named), True
        if act == "":
            if is_negated and not kinds and not clause.unknown:
                self._was_negated = True  # "not" that waits for its verb
            elif amount is not None and not kinds:
                self._set_amount(amount)
            return
        if act == "pending":
            self._pending += kinds
            self._was_negated = is_negated
            return
        if act == "more":
            if not is_negated:
                self._refused.append(f"more {_listed(kinds)}" if kinds else "more softness")
            return
        has_own_verb = clause.has(words.REMOVE, words.RESTORE, words.KEEP, words.ACTIONS)
        carries = clause.opening in ("or", "nor") and not negations
        if carries and has_own_verb and self._was_negated:
            is_negated = True
        if act in ("remove", "keep"):
            act = {"remove": "keep", "keep": "remove"}[act] if is_negated else act
        is_named = bool(named or goals or actions) or (bool(kinds) and len(kinds) < 3)
        kinds = tuple(dict.fromkeys([*kinds, *self._taken_pending(act)]))
        self._requests.append((act, is_named, kinds))
        if amount is not None and act == "remove":
            self._amounts |= dict.fromkeys(kinds, amount)
        self._is_described = bool(named) and not has_own_verb
        self._act, self._kinds, self._was_negated = act, kinds, is_negated

    def _verb(self, clause, faults, named, goals, actions) -> tuple[str, list[str]]:
        """Returns what a clause does, before negation, and to which degradations.

        The act is "remove", "keep", "more" (of a degradation), "pending" for names that wait for
        their verb, or "" for nothing.
        """
        names_rest = clause.has(words.REST)
        is_general = clause.has(words.ALL) and not (named or goals or actions)
        everything = list(DEGRADATIONS)
        refers = not clause.unknown and self._kinds
        if clause.has(words.REMOVE):
            if goals and not (faults or actions):
                return "more", []
            kinds = faults or actions or (named if not clause.unknown else [])
            if kinds or names_rest:
                return ("remove", kinds) if kinds else ("", [])
            if is_general:
                return "remove", everything
            if self._pending and not clause.unknown:
                return "remove", []
            return ("remove", list(self._kinds)) if refers else ("", [])
        if clause.has(words.KEEP):
            if named or actions:
                return "keep", [*named, *actions]
            if goals or (names_rest and not is_general):
                return "", []
            if self._pending and not clause.unknown:
                return "keep", []
            if refers and self._is_described and not is_general:
                return "keep", list(self._kinds)
            return "keep", everything
        if actions:
            return "remove", [*actions, *named]
        if clause.has(words.CHANGE):
            is_negated = clause.has(words.NEGATIONS)
            if is_negated and not names_rest:
                return "remove", named or goals or everything
            return "", []
        is_wish = clause.has(words.WISH) and clause.has(("i", "we"))
        if is_wish and faults:
            return "keep", faults
        if not clause.has(words.RESTORE) and self._is_harm(clause, named):
            return "more", faults or named
        if clause.has(words.RESTORE):
            if named or goals:
                return "remove", [*named, *goals]
            if self._first_object_is_unknown(clause):
                return "", []
            if refers and self._is_described and not is_general:
                return "remove", list(self._kinds)
            return "remove", everything
        if goals:
            return "remove", goals
        return self._without_verb(clause, faults, named, is_general)

    def _without_verb(self, clause, faults, named, is_general) -> tuple[str, list[str]]:
        """Returns the act of a clause that only names degradations."""
        kinds = named or (list(DEGRADATIONS) if is_general else [])
        if not kinds:
            return "", []
        if clause.has(_REVERSED):
            return "remove", kinds  # negated later
        if clause.has(_NO):
            # "no noise" is a wish for an image without noise: its negation removes it.
            return "keep", kinds
        if clause.unknown:
            return "", []
        if clause.has(("not",)):
            return self._act or "remove", kinds
        if self._act and faults:
            return self._act, kinds
        if faults and len(faults) == len(named) and not clause.has(_DESCRIBING):
            return "pending", kinds
        return "remove", kinds

    @staticmethod
    def _is_harm(clause, named) -> bool:
        """Returns whether a clause asks for a degradation instead of for its removal."""
        verb = clause.tokens[0] == "blur" and len(clause.tokens) > 1 and clause.tokens[1] in _NEXT
        pairs = zip(clause.tokens, clause.tokens[1:-1])  # "do not blur it"
        negated = any(a in words.NEGATIONS and b == "blur" for a, b in pairs)
        adds = bool(named) and clause.has(words.ADD)
        more = bool(named) and clause.has(words.MORE) and not clause.has(_NO)  # "no more grain"
        becomes = clause.has(words.BECOME) and clause.has(words.DESCRIPTIONS)
        becomes = becomes and not clause.has(words.GOALS)
        loses = clause.has(words.HARM) or ("blurring" in clause.tokens and clause.has(_NO))
        return verb or negated or adds or more or becomes or loses

    @staticmethod
    def _first_object_is_unknown(clause) -> bool:
        """Returns whether "fix" and its like have an object that is not the image."""
        after = False
        for token in clause.tokens:
            if after and token not in words.FILLERS - _IMAGES:
                return token not in KNOWN
            after = after or token in words.RESTORE
        return False

    def _taken_pending(self, act: str) -> list[str]:
        kinds, self._pending = self._pending, []
        return kinds if act in ("remove", "keep") else []

    @staticmethod
    def _amount_of(clause: Clause) -> float | None:
        for token in clause.tokens:
            if token.endswith("%"):
                return min(1.0, float(token[:-1]) / 100.0)
            if token in words.AMOUNTS:
                return words.AMOUNTS[token]
        return None

    def _set_amount(self, amount: float) -> None:
        if self._act == "remove":
            self._amounts |= dict.fromkeys(self._kinds, amount)
        else:
            self._general_amount = amount

    def result(self) -> Understood:
        """Resolves the requests: what is named counts more than "everything"."""
        if self._pending:
            self._requests.append(("remove", True, tuple(self._pending)))
        named = {act: set() for act in ("remove", "keep")}
        general = {act: set() for act in ("remove", "keep")}
        for act, is_named, kinds in self._requests:
            (named if is_named else general)[act] |= set(kinds)
        both = named["remove"] & named["keep"]
        remove = (named["remove"] | general["remove"]) - named["keep"]
        if general["remove"] & general["keep"]:
            both |= set(DEGRADATIONS) - named["remove"] - named["keep"]
            remove -= both
        keep = (named["keep"] | general["keep"]) - remove - (both if general["remove"] else set())
        remove, keep, both = (
            tuple(kind for kind in DEGRADATIONS if kind in group) for group in (remove, keep, both)
        )
        amounts = {self._amounts.get(kind, self._general_amount) for kind in remove}
        amount, notes = 1.0, []
        if len(amounts) == 1 and (only := amounts.pop()) is not None:
            amount = only
        elif len(amounts) > 1:
            notes.append("different amounts for two degradations: both are removed in full")
        notes += self._notes(both)
        if not remove:
            notes.append("nothing to remove is asked for, so the image stays unchanged")
        return Understood(remove, keep, amount, tuple(notes))

    def _notes(self, both: Sequence[str]) -> Iterator[str]:
        if both:
            yield f"contradictory: {_listed(both)} both to remove and to keep; kept"
        for label, asked in self._unsupported.items():
            listed = ", ".join(map(repr, dict.fromkeys(asked)))
            yield f"not supported: {label} ({listed}); this part has no effect"
        for asked in dict.fromkeys(self._refused):
            yield f"not supported: {asked}; this part has no effect"
        if not self._unknown:
            return
        listed = ", ".join(map(repr, self._unknown[:_LISTED]))
        more = ", ..." if len(self._unknown) > _LISTED else ""
        hint = "" if self._requests else "; instructions are read in English"
        yield f"not understood: {listed}{more}{hint}"


def _listed(kinds: Sequence[str]) -> str:
    """Returns names with "and" before the last."""
    shown = [{"jpeg": "JPEG artifacts"}.get(kind, kind) for kind in dict.fromkeys(kinds)]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)


_GENTLY = 0.5  # share of the change after "do not overdo it"
_EXCESS = words.as_set("overdo oversharpen oversmooth overprocess")
_NO = frozenset(("no", "zero", "without", "minus"))
_NEXT = words.as_set("it this that the my our everything background all")
_DESCRIBING = words.as_set("very too so is are has have some much there lot bad")
_IMAGES = words.as_set(
    "it this that photo photograph picture pic image img shot snapshot scan file portrait "
    "landscape selfie photos one me"
)
