"""Which known template a new one is in other words."""

from hypothesis import given, settings
from hypothesis import strategies as st

from models.wording import COMMON, MAX_CHARACTERS, TROUBLE, Wordings, is_rewording, trouble_in, words

TEXT = st.lists(st.sampled_from(["open", "file", "<NUM>", "failed", "socket", "by", "user"]), max_size=8).map(" ".join)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=20), TEXT)
def test_the_nearest_is_the_first_with_the_greatest_share_of_words(known: list[str], text: str) -> None:
    shares = [len(words(text) & words(one)) / max(1, len(words(text) | words(one))) for one in known]
    best = max(shares, default=0.0)
    assert Wordings(known).nearest(text) == ((shares.index(best), best) if best else (-1, 0.0))


def test_variable_parts_punctuation_and_case_are_no_words() -> None:
    assert words("Receiving block <ID>, (src: /<IP>)") == {"receiving", "block", "src"}
    assert Wordings(["Opened file <NUM>"]).nearest('opened "file"; <PATH>') == (0, 1.0)


def test_a_word_of_many_templates_finds_none_by_itself() -> None:
    known = Wordings([f"job number{i}" for i in range(COMMON + 1)])
    assert known.nearest("job other") == (-1, 0.0)
    assert known.nearest("job number7 again") == (7, 2 / 3)


def test_long_texts_are_compared_by_their_beginnings() -> None:
    begins = "word " * (MAX_CHARACTERS // 5)
    assert Wordings([begins + "one"]).nearest(begins + "other") == (0, 1.0)


def test_words_of_trouble_are_found_in_humps_and_beginnings() -> None:
    assert [TROUBLE[one] for one in trouble_in("java.io.IOException: FailedLogin")] == ["exception", "fail"]
    assert trouble_in("terror is no beginning of a word of it") == ()


def test_a_rewording_is_alike_and_brings_no_trouble() -> None:
    assert is_rewording("copy of <ID> finished now", "copy of <ID> finished", 0.75)
    assert not is_rewording("copy of <ID> finished now", "copy of <ID> finished", 0.5)
    assert not is_rewording("copy of <ID> failed", "copy of <ID> finished", 0.75)
    assert is_rewording("copy of <ID> failed again", "copy of <ID> failed", 0.75)
