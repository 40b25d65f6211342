"""Tokens: recognised by the daemon that made them, and found in no place where they could be read."""

import asyncio
import contextlib
import dataclasses
import time

import pytest
from fakes import MemoryStore

from waportd import tokens as module
from waportd.errors import Conflict, StoreError, UnknownToken
from waportd.model import User
from waportd.tokens import Tokens


@pytest.fixture
def tokens(store):
    return Tokens(store)


async def test_a_token_is_recognised_and_its_use_noted(tokens):
    token, text = await tokens.create("web app", None)
    assert token.last_used_at is None
    known = tokens.recognise(text)
    assert (known.id, known.name, known.user) == (token.id, "web app", None)
    assert time.time() - known.last_used_at < 10


async def test_it_is_recognised_after_a_restart(tokens, store):
    _, text = await tokens.create("page", User("2"))
    successor = Tokens(store)
    assert successor.recognise(text) is None
    await successor.load()
    assert successor.recognise(text).user == "2"


async def test_what_is_kept_does_not_reveal_it(tokens, store):
    _, text = await tokens.create("web app", None)
    secret = text.split("_", 2)[2]
    for token in store.tokens.values():
        assert secret not in str(dataclasses.asdict(token))
        assert token.digest not in repr(token)


async def test_no_two_are_alike_and_none_is_short(tokens):
    made = [await tokens.create("x", None) for _ in range(20)]
    assert len({text for _, text in made}) == len({token.id for token, _ in made}) == 20
    assert all(len(text.split("_", 2)[2]) == 43 for _, text in made)


async def test_nothing_else_is_recognised(tokens):
    token, text = await tokens.create("x", None)
    _, other = await tokens.create("y", None)
    last = "A" if text[-1] != "A" else "B"
    wrong = [
        "",
        " ",
        text[:-1],
        text + "A",
        text[:-1] + last,
        text.upper(),
        text + "\n",
        f"waportd_{token.id}_{other.rpartition('_')[2]}"[:64],
        other.replace(other[8:20], token.id),
        token.digest,
        token.id,
        "é" * 64,
        "\udcff",
    ]
    assert [tokens.recognise(one) for one in wrong] == [None] * len(wrong)


async def test_a_deleted_token_is_recognised_no_more(tokens, store):
    token, text = await tokens.create("x", None)
    await tokens.revoke(token.id)
    assert tokens.recognise(text) is None
    assert not tokens.is_valid(token.id)
    assert store.tokens == {}
    with pytest.raises(UnknownToken):
        await tokens.revoke(token.id)


async def test_there_is_an_end_to_how_many_there_are(tokens, monkeypatch):
    monkeypatch.setattr(module, "MAX_TOKENS", 2)
    await tokens.create("x", None)
    await tokens.create("y", None)
    with pytest.raises(Conflict):
        await tokens.create("z", None)


async def test_uses_are_written_once_and_not_of_those_deleted_meanwhile():
    class Store(MemoryStore):
        written = 0

        async def put_token(self, token):
            self.written += 1
            await super().put_token(token)

    store = Store()
    tokens = Tokens(store)
    token, text = await tokens.create("x", None)
    gone, other = await tokens.create("y", None)
    for _ in range(3):
        tokens.recognise(text)
        tokens.recognise(other)
    await tokens.revoke(gone.id)
    await tokens.keep_uses()
    await tokens.keep_uses()
    assert store.written == 3
    assert set(store.tokens) == {token.id}
    assert store.tokens[token.id].last_used_at is not None


@pytest.mark.parametrize("fails", [False, True])
async def test_a_token_that_was_used_just_now_stays_deleted_unless_that_fails(fails):
    removing, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        async def remove_token(self, identifier):
            removing.set()
            await go_on.wait()
            if fails:
                raise StoreError("full")
            await super().remove_token(identifier)

        async def put_token(self, token):
            await super().put_token(token)
            kept.append(token.id)

    kept = []
    store = Slow()
    tokens = Tokens(store)
    token, text = await tokens.create("web app", None)
    assert tokens.recognise(text)
    kept.clear()
    revoking = asyncio.create_task(tokens.revoke(token.id))
    await removing.wait()
    await tokens.keep_uses()
    assert kept == []
    assert tokens.recognise(text) is None
    go_on.set()
    with pytest.raises(StoreError) if fails else contextlib.nullcontext():
        await revoking
    assert (tokens.recognise(text) is not None) == fails
