"""Chunks: named after their content, readable for one user of one fleet, and whole or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waportd.fleet import key_files
from waportd.fleet.chunks import CHUNK_BYTES, TAG_BYTES, Damaged, FleetKeys, KeyUnusable

KEYS = FleetKeys.create()


@given(st.binary(max_size=4096))
def test_what_is_sealed_is_opened(plain):
    key = KEYS.of("7")
    name = key.name(plain)
    sealed = key.seal(name, plain)
    assert len(sealed) == len(plain) + TAG_BYTES
    assert KEYS.of("7").open(name, sealed) == plain


def test_a_whole_chunk_is_sealed_and_opened():
    key, plain = KEYS.of("7"), bytes(CHUNK_BYTES)
    assert key.open(key.name(plain), key.seal(key.name(plain), plain)) == plain


def test_equal_content_has_one_name_and_other_content_another():
    key = KEYS.of("7")
    assert key.name(b"one") == KEYS.of("7").name(b"one")
    assert key.seal(key.name(b"one"), b"one") == key.seal(key.name(b"one"), b"one")
    assert key.name(b"one") != key.name(b"two")


def test_nothing_shows_that_two_users_have_the_same_chunk():
    one, other = KEYS.of("7"), KEYS.of("8")
    assert one.name(b"chat") != other.name(b"chat")
    assert one.seal("00" * 32, b"chat") != other.seal("00" * 32, b"chat")


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_chunk_that_has_changed_by_one_bit_is_refused(plain, data):
    key = KEYS.of("7")
    name = key.name(plain)
    sealed = bytearray(key.seal(name, plain))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        key.open(name, bytes(sealed))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_chunk_that_was_cut_off_is_refused(plain, data):
    key = KEYS.of("7")
    name = key.name(plain)
    with pytest.raises(Damaged):
        key.open(name, key.seal(name, plain)[: data.draw(st.integers(0, len(plain) + TAG_BYTES - 1))])


def test_a_chunk_under_the_name_of_another_is_refused():
    key = KEYS.of("7")
    with pytest.raises(Damaged):
        key.open(key.name(b"two"), key.seal(key.name(b"one"), b"one"))


def test_a_chunk_with_the_nonce_of_another_is_refused():
    key = KEYS.of("7")
    name = key.name(b"one")
    similar = name[:24] + "0" * 40
    with pytest.raises(Damaged, match="holds another one"):
        key.open(similar, key.seal(name, b"one"))


@pytest.mark.parametrize("other", [KEYS.of("8"), FleetKeys.create().of("7")])
def test_a_chunk_of_another_user_or_fleet_is_refused(other):
    name = other.name(b"chat")
    with pytest.raises(Damaged):
        KEYS.of("7").open(name, other.seal(name, b"chat"))


@given(st.binary(max_size=200), st.data())
def test_a_manifest_is_whole_or_refused(plain, data):
    key = KEYS.of("7")
    sealed = bytearray(key.seal_manifest(5, plain))
    assert key.open_manifest(5, bytes(sealed)) == plain
    bit = data.draw(st.integers(8 * 4, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        key.open_manifest(5, bytes(sealed))


def test_a_manifest_of_another_token_or_user_is_refused():
    sealed = KEYS.of("7").seal_manifest(5, b"{}")
    for key, token in ((KEYS.of("7"), 6), (KEYS.of("8"), 5)):
        with pytest.raises(Damaged):
            key.open_manifest(token, sealed)


def test_a_manifest_is_no_chunk():
    key = KEYS.of("7")
    sealed = key.seal(key.name(b"{}"), b"{}")
    nonce = bytes.fromhex(key.name(b"{}"))[:12]
    with pytest.raises(Damaged):
        key.open_manifest(5, (1).to_bytes(4) + nonce + sealed)


class TestKeys:
    def test_the_newest_key_writes_and_old_ones_read(self):
        old = KEYS.of("7").seal_manifest(5, b"old")
        keys = KEYS.rotated()
        assert (KEYS.of("7").number, keys.of("7").number, keys.of_manifest("7", old).number) == (1, 2, 1)
        assert keys.of_manifest("7", old).open_manifest(5, old) == b"old"
        assert keys.of("7").name(b"one") != KEYS.of("7").name(b"one")

    def test_a_key_that_a_host_does_not_have_is_named_by_its_number(self):
        with pytest.raises(KeyUnusable, match="fleet key 2, which this host") as caught:
            KEYS.of_manifest("7", KEYS.rotated().of("7").seal_manifest(5, b"new"))
        assert "copy" in caught.value.hint

    def test_a_key_file_is_read_as_it_was_written(self, tmp_path):
        path = tmp_path / "fleet.key"
        key_files.write(path, KEYS.rotated().rotated().text().encode())
        assert FleetKeys.read(path).of("7").number == 3
        assert FleetKeys.parse(KEYS.text(), "").of("7").name(b"one") == KEYS.of("7").name(b"one")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1",
            "secret",
            f"0 {'ab' * 32}",
            f"1 {'ab' * 31}",
            f"1 {'AB' * 32}",
            f"9999999999 {'ab' * 32}",
            f"1 {'ab' * 32}\n1 {'cd' * 32}",
            f"1 {'ab' * 32}\n\n",
        ],
    )
    def test_a_key_file_that_is_none_is_refused_without_a_word_of_it(self, text):
        with pytest.raises(KeyUnusable) as caught:
            FleetKeys.parse(text, "fleet.key")
        assert "fleet.key" in caught.value.message
        assert not any(secret in caught.value.message for secret in ("ab" * 4, "AB" * 4, "secret"))

    def test_a_missing_key_file_is_an_error_with_its_name(self, tmp_path):
        with pytest.raises(KeyUnusable, match=r"fleet\.key: No such file"):
            FleetKeys.read(tmp_path / "fleet.key")

    def test_bytes_are_no_key_file(self, tmp_path):
        (tmp_path / "fleet.key").write_bytes(b"1 \xff")
        with pytest.raises(KeyUnusable, match="not a file of fleet keys"):
            FleetKeys.read(tmp_path / "fleet.key")

    def test_a_key_file_that_everybody_may_read_is_refused(self, tmp_path):
        key_files.write(tmp_path / "fleet.key", KEYS.text().encode(), mode=0o644)
        with pytest.raises(KeyUnusable, match="read by everybody") as caught:
            FleetKeys.read(tmp_path / "fleet.key")
        assert "rotate" in caught.value.hint
