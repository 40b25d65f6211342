"""Secrets of users in the rows of the engine."""

import base64
import json

import pytest

from waportd.fleet.chunks import Damaged, FleetKeys, KeyUnusable
from waportd.fleet.engine import EngineUnavailable, Row
from waportd.fleet.record import SEALED, assignment_of, document_of
from waportd.fleet.sealing import Sealing
from waportd.model import Assignment, Port, User

KEYS = FleetKeys.create()
SEALING = Sealing(KEYS)
SECRET = {
    "webhook_url": "https://app.example/hook?token=t0ken",
    "webhook_secret": ("s3cret-one", "s3cret-two"),
    "proxy": "http://name:passw0rd@192.0.2.8:3128",
}
ANA = Assignment(User("ana"), Port(5001), created_at=12.5, note="of hers", **SECRET)


def row(document, user="ana"):
    return Row(user, 5001, "a", document=document)


def test_what_is_secret_is_not_to_be_read_in_the_engine():
    document = document_of(ANA, sealing=SEALING)
    written = json.dumps(document)
    for word in ("app.example", "t0ken", "s3cret", "passw0rd", "192.0.2.8"):
        assert word not in written
        assert base64.b64encode(word.encode()).decode()[:-3] not in written
    assert document["note"] == "of hers"
    assert assignment_of(row(document), SEALING) == ANA
    shown = assignment_of(row(document))
    assert (shown.proxy, shown.webhook_secret, shown.note) == (None, None, "of hers")


def test_the_same_values_are_the_same_text_and_others_another_one():
    first = document_of(ANA, sealing=SEALING)
    assert document_of(ANA, row(first), SEALING) == first
    other = Assignment(User("bob"), Port(5001), created_at=12.5, note="of hers", **SECRET)
    assert document_of(other, sealing=SEALING)[SEALED] != first[SEALED]
    plain = Assignment(User("ana"), Port(5001), created_at=12.5)
    assert SEALED not in document_of(plain, row(first), SEALING), "there is none any more"


def test_a_row_from_before_is_read_and_sealed_with_the_next_change():
    before = row(document_of(ANA))
    assert assignment_of(before, SEALING) == ANA
    after = document_of(ANA, before, SEALING)
    assert not SECRET.keys() & after.keys()
    assert assignment_of(row(after), SEALING) == ANA


def test_a_new_fleet_key_writes_and_the_one_before_still_reads():
    before = document_of(ANA, sealing=SEALING)
    rotated = Sealing(KEYS.rotated())
    assert assignment_of(row(before), rotated) == ANA
    after = document_of(ANA, sealing=rotated)
    assert after[SEALED] != before[SEALED]
    with pytest.raises(EngineUnavailable, match="need fleet key 2, which this host does not have") as caught:
        assignment_of(row(after), SEALING)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", "AAAAAQ==" * 9])
def test_what_is_no_sealed_text_is_damage(text):
    with pytest.raises((Damaged, KeyUnusable)):
        SEALING.open("ana", text)


def test_a_sealed_text_is_good_for_its_user_only_and_to_the_bit():
    text = SEALING.seal("ana", {"proxy": "x"})
    with pytest.raises(Damaged, match="the secrets of user bob"):
        SEALING.open("bob", text)
    content = bytearray(base64.b64decode(text))
    for at in range(4, len(content)):
        content[at] ^= 1
        with pytest.raises(Damaged):
            SEALING.open("ana", base64.b64encode(content).decode())
        content[at] ^= 1
    with pytest.raises(Damaged):
        Sealing(FleetKeys.create()).open("ana", text)
