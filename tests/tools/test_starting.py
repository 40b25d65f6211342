"""What the lines of servers that start say."""

from starting import KILLED, TURN, Line, is_back, lines_of, most_at_a_time, starts, tries

BEGIN, READY = "whatsapp@5001: starting the browser path=/x", "whatsapp@5001: authenticated -> ready: linked"
FAILED = "whatsapp@5001: disconnected -> error: no browser; next try at 10:00:05 UTC"
LISTENS = "whatsapp@5001: listening on port 5001"


def test_who_starts_beside_another_is_counted():
    first, second = [Line(1, 5001, BEGIN), Line(3, 5001, READY)], [Line(2, 5002, BEGIN), Line(4, 5002, READY)]
    assert most_at_a_time([*first, *second]) == 2
    assert most_at_a_time(first) == 1
    assert most_at_a_time([]) == 0


def test_who_starts_when_another_is_there_or_has_failed_is_not_beside_it():
    for end in (READY, FAILED):
        assert (
            most_at_a_time(
                [Line(1, 5001, BEGIN), Line(2, 5001, end), Line(2, 5002, BEGIN), Line(3, 5002, end)]
            )
            == 1
        )


def test_a_start_ends_with_its_server_and_not_when_the_next_one_says_so():
    others = [Line(3, 5002, BEGIN), Line(5, 5002, READY), Line(4, 5001, LISTENS)]
    assert most_at_a_time([Line(1, 5001, BEGIN), Line(2, 5001, KILLED), *others]) == 1
    assert most_at_a_time([Line(1, 5001, BEGIN), Line(2, 5001, "authenticated"), *others]) == 1


def test_a_start_that_takes_long_holds_nobody_up_for_ever():
    late = [Line(TURN + 2, 5002, BEGIN), Line(TURN + 3, 5002, READY), Line(TURN + 4, 5001, READY)]
    assert most_at_a_time([Line(1, 5001, BEGIN), *late]) == 1


def test_who_is_back_has_met_the_fault_and_is_ready_again():
    assert not is_back([], 5001)
    assert not is_back([Line(1, 5001, KILLED)], 5001)
    assert not is_back([Line(1, 5001, BEGIN), Line(2, 5001, FAILED)], 5001)
    assert is_back([Line(2, 5001, READY), Line(1, 5001, BEGIN)], 5001)
    assert not is_back([Line(2, 5002, READY)], 5001)


def test_tries_and_starts_are_those_of_one_user():
    said = lines_of(
        5001,
        "0.5 whatsapp@5001: authenticated -> ready: linked\n"
        '1.5 whatsapp@5001: the page has crashed next="its page is reloaded"\n'
        f"2.5 {BEGIN}\n3.5 {FAILED}\n",
        since=1.0,
    )
    assert [line.moment for line in said] == [1.5, 2.5, 3.5]
    assert len(tries(said, 5001)) == 1
    assert (starts(said, 5001), starts(said, 5002)) == (3, 0)
