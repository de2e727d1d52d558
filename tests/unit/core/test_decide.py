"""S3 and S4: the decision, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.decide import Decision, Rule, decide
from syncd.core.link import How, Link, LinkState, Spelling
from syncd.core.policy import Access, Direction, FieldRule, FirstLink, Policy, Tie
from syncd.core.record import Position, Record, sighted
from syncd.core.values import CrmId, Field, IonId, Millis, Side

NAME = Field.COMPANY
UNKNOWN = object()
SKEW = 10


def record(side: Side, value: object, earliest: int = 100, latest: int = 100) -> Record:
    if value is UNKNOWN:
        return Record(side, "1", {})
    top = sighted(value, Millis(latest), earliest == latest, Position(None, Millis(latest), 0), Millis(latest))  # type: ignore[arg-type]
    older = sighted("(older)", Millis(0), False, Position(None, Millis(earliest), -1), Millis(earliest))
    return Record(side, "1", {NAME: (top, older) if earliest != latest else (top,)})


def decided(base: object, c: Record | object, i: Record | object, **rule: object) -> Decision:
    crm = c if isinstance(c, Record) else record(Side.CRM, c)
    ion = i if isinstance(i, Record) else record(Side.ION, i)
    held = {} if base is UNKNOWN else {NAME: base}
    link = Link(CrmId("1"), IonId("1"), LinkState.LINKED, How.PERSON, Millis(1_000), held)  # type: ignore[arg-type]
    return decide(link, crm, ion, Policy({NAME: FieldRule(NAME, **rule)}, SKEW))  # type: ignore[arg-type]


TO_ION, TO_CRM, NOBODY = "to ion", "to crm", "nobody"

TABLE = [
    # base, CRM, ION, rule, who is written, with what
    pytest.param("b", "x", "x", Rule.AGREE, NOBODY, None, id="C = I: agree, though both moved"),
    pytest.param("b", "b", "b", Rule.AGREE, NOBODY, None, id="nothing moved"),
    pytest.param("b", "x", "b", Rule.ONLY_CRM_MOVED, TO_ION, "x", id="I = B, C moved: write C to ION"),
    pytest.param("b", "b", "y", Rule.ONLY_ION_MOVED, TO_CRM, "y", id="C = B, I moved: write I to the CRM"),
    pytest.param("b", None, "b", Rule.ONLY_CRM_MOVED, TO_ION, None, id="cleared in the CRM: cleared in ION"),
    pytest.param("b", "b", None, Rule.ONLY_ION_MOVED, TO_CRM, None, id="cleared in ION: cleared in the CRM"),
    pytest.param("b", "x", "y", Rule.TIE, TO_ION, "x", id="both moved at once: the tie policy"),
    pytest.param(UNKNOWN, None, "y", Rule.BLANK_FILLED, TO_CRM, "y", id="first link, CRM blank: ION fills it"),
    pytest.param(UNKNOWN, "x", None, Rule.BLANK_FILLED, TO_ION, "x", id="first link, ION blank: the CRM fills it"),
    pytest.param(UNKNOWN, "x", "y", Rule.FIRST_LINK, TO_ION, "x", id="first link, both differ: the policy"),
    pytest.param(UNKNOWN, "x", "x", Rule.AGREE, NOBODY, None, id="first link, both alike"),
    pytest.param(UNKNOWN, UNKNOWN, "y", Rule.AGREE, NOBODY, None, id="the CRM never mentioned it: ION's is the base"),
    pytest.param("y", UNKNOWN, "z", Rule.ONLY_ION_MOVED, TO_CRM, "z", id="never mentioned, then edited in ION"),
    pytest.param("y", UNKNOWN, "y", Rule.AGREE, NOBODY, None, id="never mentioned, nothing moved"),
]


@pytest.mark.parametrize(("base", "c", "i", "rule", "who", "value"), TABLE)
def test_the_table(base: object, c: object, i: object, rule: Rule, who: str, value: object) -> None:
    decision = decided(base, c, i)
    assert [outcome.rule for outcome in decision.outcomes] == [rule]
    assert decision.to_ion == ({NAME: value} if who == TO_ION else {})
    assert decision.to_crm == ({NAME: value} if who == TO_CRM else {})


def test_agreeing_moves_the_base() -> None:
    assert decided("b", "x", "x").base == {NAME: "x"}
    assert decided("b", "x", "x").agreed == (NAME,)


def test_a_write_leaves_the_base_until_it_is_confirmed() -> None:
    assert decided("b", "x", "b").base == {NAME: "b"}


STAMPS = [
    pytest.param((100, 100), (200, 200), Side.ION, Rule.LATER_EDIT, id="ION later"),
    pytest.param((200, 200), (100, 100), Side.CRM, Rule.LATER_EDIT, id="CRM later"),
    pytest.param((100, 100), (110, 110), Side.CRM, Rule.TIE, id="no further apart than the skew"),
    pytest.param((100, 100), (111, 111), Side.ION, Rule.LATER_EDIT, id="just further than the skew"),
    pytest.param((150, 150), (100, 200), Side.CRM, Rule.TIE, id="the edit lies inside the interval"),
    pytest.param((50, 50), (100, 200), Side.ION, Rule.LATER_EDIT, id="the edit lies before the interval"),
    pytest.param((300, 300), (100, 200), Side.CRM, Rule.LATER_EDIT, id="the edit lies after the interval"),
]


@pytest.mark.parametrize(("crm", "ion", "winner", "rule"), STAMPS)
def test_last_writer_wins_by_intervals(crm: tuple[int, int], ion: tuple[int, int], winner: Side, rule: Rule) -> None:
    decision = decided("b", record(Side.CRM, "x", *crm), record(Side.ION, "y", *ion))
    [outcome] = decision.conflicts
    assert (outcome.winner, outcome.rule) == (winner, rule)
    assert {outcome.value, outcome.loser} == {"x", "y"}
    assert outcome.write_to is winner.other


@given(st.integers(0, 300), st.integers(0, 50), st.integers(0, 300), st.integers(0, 50))
def test_whoever_is_surely_later_wins(crm_at: int, crm_width: int, ion_at: int, ion_width: int) -> None:
    crm = record(Side.CRM, "x", crm_at, crm_at + crm_width)
    ion = record(Side.ION, "y", ion_at, ion_at + ion_width)
    [outcome] = decided("b", crm, ion).outcomes
    if ion_at > crm_at + crm_width + SKEW:
        assert outcome.winner is Side.ION
    elif crm_at > ion_at + ion_width + SKEW:
        assert outcome.winner is Side.CRM
    else:
        assert outcome.rule is Rule.TIE


def test_the_tie_policy_can_favour_ion_or_leave_it_to_a_person() -> None:
    assert decided("b", "x", "y", tie=Tie.ION).to_crm == {NAME: "y"}
    [outcome] = decided("b", "x", "y", tie=Tie.REVIEW).outcomes
    assert (outcome.rule, outcome.winner, outcome.is_kept) == (Rule.REVIEW, None, True)


def test_the_first_link_policies() -> None:
    assert decided(UNKNOWN, "x", "y", first_link=FirstLink.ION).to_crm == {NAME: "y"}
    [held] = decided(UNKNOWN, "x", "y", first_link=FirstLink.REVIEW).outcomes
    assert held.rule is Rule.REVIEW
    newest = decided(
        UNKNOWN, record(Side.CRM, "x", 100), record(Side.ION, "y", 500, 500), first_link=FirstLink.NEWEST
    )
    assert newest.to_crm == {NAME: "y"}


def test_a_blank_never_beats_a_value_on_a_first_link() -> None:
    for policy in FirstLink:
        assert decided(UNKNOWN, None, "y", first_link=policy).to_crm == {NAME: "y"}
        assert decided(UNKNOWN, "x", None, first_link=policy).to_ion == {NAME: "x"}


@pytest.mark.parametrize(
    ("direction", "c", "i"),
    [(Direction.ION_TO_CRM, "x", "b"), (Direction.CRM_TO_ION, "b", "y")],
)
def test_a_forbidden_write_is_kept_and_counted(direction: Direction, c: str, i: str) -> None:
    decision = decided("b", c, i, direction=direction)
    assert not decision.to_ion
    assert not decision.to_crm
    assert [outcome.field for outcome in decision.kept] == [NAME]
    assert decision.base == {NAME: "b"}


def test_a_first_difference_that_is_kept_lets_later_edits_of_the_other_side_through() -> None:
    first = decided(UNKNOWN, "x", "y", direction=Direction.ION_TO_CRM)
    assert [outcome.is_kept for outcome in first.outcomes] == [True]
    assert first.base == {NAME: "y"}
    later = decided("y", record(Side.CRM, "x", 100), record(Side.ION, "z", 500), direction=Direction.ION_TO_CRM)
    assert later.to_crm == {NAME: "z"}


def test_an_off_field_and_a_field_ion_lacks_are_not_compared() -> None:
    assert decided("b", "x", "y", direction=Direction.OFF).outcomes == ()
    assert decided("b", "x", "y", ion=Access.NONE).outcomes == ()


def test_a_read_only_field_of_ion_is_never_written_there() -> None:
    assert decided("b", "x", "b", ion=Access.READ).to_ion == {}


class TestAFieldThatIonNeverShows:
    def test_is_left_alone_at_first(self) -> None:
        decision = decided(UNKNOWN, "x", UNKNOWN, ion=Access.WRITE)
        assert not decision.to_ion
        assert decision.base == {NAME: "x"}

    def test_is_written_when_the_crm_moved_it(self) -> None:
        assert decided("x", "y", UNKNOWN, ion=Access.WRITE).to_ion == {NAME: "y"}

    def test_never_flaps(self) -> None:
        assert decided("y", "y", UNKNOWN, ion=Access.WRITE).to_ion == {}

    def test_is_nothing_where_the_crm_has_none(self) -> None:
        assert decided(UNKNOWN, UNKNOWN, UNKNOWN, ion=Access.WRITE).outcomes == ()


def test_what_neither_side_knows_is_nothing() -> None:
    assert decided(UNKNOWN, UNKNOWN, UNKNOWN).outcomes == ()


def test_a_field_that_ion_was_never_seen_to_hold_has_no_stamp_to_compare() -> None:
    [outcome] = decided("b", "x", UNKNOWN).outcomes
    assert (outcome.rule, outcome.winner) == (Rule.TIE, Side.CRM)


def test_canonical_equality_is_agreement() -> None:
    def fold(value: object, _: str | None) -> object:
        return value.casefold() if isinstance(value, str) else value

    decision = decided("b", "Dana@X.example", "dana@x.example", key=fold)
    assert [outcome.rule for outcome in decision.outcomes] == [Rule.AGREE]


def test_a_spelling_of_ions_own_is_equal_to_what_we_wrote() -> None:
    link = Link(CrmId("1"), IonId("1"), LinkState.LINKED, How.PERSON, Millis(0), {NAME: "Acme"})
    respelt = replace(link, spellings={(Side.ION, NAME): Spelling("Acme", "ACME")})
    policy = Policy({NAME: FieldRule(NAME)}, SKEW)
    crm, ion = record(Side.CRM, "Acme"), record(Side.ION, "ACME")
    assert decide(link, crm, ion, policy).to_crm == {NAME: "ACME"}
    assert decide(respelt, crm, ion, policy).outcomes[0].rule is Rule.AGREE
    assert decide(respelt, crm, record(Side.ION, "Other"), policy).to_crm == {NAME: "Other"}


values = st.sampled_from(["b", "x", "y", None])


@given(values, values, values, st.integers(0, 200), st.integers(0, 200))
def test_deciding_writes_at_most_one_side_and_settles(base, c, i, crm_at, ion_at) -> None:
    """Carry the decision out, decide again: nothing is left to do, and nothing was invented."""
    crm, ion = record(Side.CRM, c, crm_at), record(Side.ION, i, ion_at)
    first = decided(base, crm, ion)
    assert not (first.to_ion and first.to_crm)
    after_crm, after_ion = first.to_crm.get(NAME, c), first.to_ion.get(NAME, i)
    assert after_crm in (c, i)
    assert after_ion in (c, i)
    assert after_crm == after_ion
    again = decided(after_crm, record(Side.CRM, after_crm, 300), record(Side.ION, after_ion, 300))
    assert [outcome.rule for outcome in again.outcomes] == [Rule.AGREE]


@pytest.mark.parametrize(("c", "i"), [("x", "b"), ("b", "y"), ("x", "y")])
def test_a_frozen_field_is_kept_whoever_moved(c: str, i: str) -> None:
    held = {NAME: "b"}
    link = Link(CrmId("1"), IonId("1"), LinkState.LINKED, How.PERSON, Millis(0), held, frozen=frozenset({NAME}))
    decision = decide(link, record(Side.CRM, c), record(Side.ION, i), Policy({NAME: FieldRule(NAME)}, SKEW))
    [outcome] = decision.outcomes
    assert (outcome.rule, outcome.is_kept, decision.to_crm, decision.to_ion) == (Rule.FROZEN, True, {}, {})
    assert decision.base == held


@pytest.mark.parametrize(("edited", "is_written"), [(99, False), (100, False), (101, True)])
def test_what_ion_never_shows_is_left_alone_at_the_link_and_an_edit_since_then_is_not(
    edited: int, is_written: bool
) -> None:
    link = Link(CrmId("1"), IonId("1"), LinkState.LINKED, How.PERSON, Millis(100), {})
    policy = Policy({NAME: FieldRule(NAME, ion=Access.WRITE)}, SKEW)
    decision = decide(link, record(Side.CRM, "x", edited, edited), record(Side.ION, UNKNOWN), policy)
    assert decision.to_ion == ({NAME: "x"} if is_written else {})
    assert decision.base == ({} if is_written else {NAME: "x"})
