"""Which documents anybody may see: every query, at every time, against a model in plain Python."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from memodb.catalog import Catalog, DocumentState, Filters, Scope, documents, erasing, expiring, now, registry

T0 = datetime(2024, 5, 17, tzinfo=UTC)
LIVE, ERASING, QUARANTINED = "live", "erasing", "quarantined"


@dataclass(frozen=True)
class Modelled:
    """A document, as far as who may see it goes; times are microseconds after T0."""

    state: str
    expires: int | None
    second: bool
    """In the second segment."""

    def visible(self, at: int) -> bool:
        return self.state == LIVE and (self.expires is None or at < self.expires)

    def within(self, scope: Scope, at: int) -> bool:
        return {
            Scope.VISIBLE: self.visible(at),
            Scope.QUARANTINED: self.state == QUARANTINED,
            Scope.STORED: self.state != ERASING,
            Scope.ANY: True,
        }[scope]


times = st.integers(-2, 4)
modelled = st.builds(Modelled, st.sampled_from([LIVE, LIVE, ERASING, QUARANTINED]), st.none() | times, st.booleans())


def after(microseconds: int) -> datetime:
    return T0 + timedelta(microseconds=microseconds)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=st.lists(modelled, max_size=7), clocked=times, asked=times)
def test_every_query_agrees_with_the_model(
    memory: tuple[Catalog, str, str], clock: Any, world: list[Modelled], clocked: int, asked: int
) -> None:
    catalog, collection, first = memory
    every = {f"d{i}": document for i, document in enumerate(world)}
    place = {name: 1000 + i for i, name in enumerate(every)}
    clock(after(clocked))

    def chosen(at: int, second: bool | None = None) -> list[str]:
        return [name for name, doc in every.items() if doc.visible(at) and second in (None, doc.second)]

    with catalog.write() as session:  # one: undone where an assertion fails, so that the next example starts anew
        second = registry.add_segment(session, collection, {}).id
        segments = {first: False, second: True}
        rows = [
            documents.NewDocument(
                name,
                second if document.second else first,
                bytes(32),
                np.array([place[name]]),
                T0,
                expires_at=None if document.expires is None else after(document.expires),
                text=name,
                place=place[name],
            )
            for name, document in every.items()
        ]
        documents.insert_many(session, collection, rows)
        for name, document in every.items():
            session.execute(text("UPDATE document SET state = :s WHERE id = :i"), {"s": document.state, "i": name})

        seen = chosen(clocked)
        assert now() == after(clocked)
        assert [name for name in every if documents.find(session, collection, name)] == seen
        assert documents.existing(session, collection, [*every, "none"]) == set(every)
        found = {row.place: row for row in documents.stored_at(session, collection, [*place.values(), 5])}
        assert {key: row.id for key, row in found.items()} == {place[name]: name for name in seen}
        assert all(row.tokens.tolist() == [key] and row.kept for key, row in found.items())
        (summary,) = registry.list_collections(session)
        assert (summary.documents, summary.tokens) == (len(seen), len(seen))
        for scope in Scope:
            inside = [name for name, document in every.items() if document.within(scope, clocked)]
            filters = Filters(scope=scope)
            assert documents.select_ids(session, collection, filters) == inside
            assert [row.id for row in documents.select(session, collection, filters, order="id")] == inside
            assert documents.count(session, collection, filters) == len(inside)
            assert documents.token_total(session, collection, filters) == len(inside)
            assert documents.select_ids(session, collection, Filters(ids=tuple(every), scope=scope)) == inside
            tokens = documents.tokens_of(session, collection, every, scope)
            assert {name: found.tolist() for name, found in tokens.items()} == {name: [place[name]] for name in inside}
            assert documents.texts_of(session, collection, every, scope) == {name: name for name in inside}
        then = after(asked)
        assert documents.select_ids(session, collection, Filters(ids=tuple(every), at=then)) == chosen(asked)
        assert sorted(documents.tokens_of(session, collection, every, at=then)) == chosen(asked)
        assert sorted(row.id for row in documents.stored_at(session, collection, place.values(), then)) == chosen(asked)
        for segment, which in segments.items():
            members = [name for name, document in every.items() if document.second == which]
            held = chosen(asked, which)
            shown, others = documents.places_in(session, collection, segment, after(asked))
            assert shown.dtype == others.dtype == np.int64
            assert shown.tolist() == [place[name] for name in held]
            assert others.tolist() == [place[name] for name in members if name not in held]
            assert documents.tokens_in(session, collection, segment, after(asked)) == len(held)
            stream = documents.stream_segment
            assert [n for n, _ in stream(session, collection, segment)] == chosen(clocked, which)
            assert [n for n, _ in stream(session, collection, segment, at=after(asked))] == held
            assert [n for n, _ in stream(session, collection, segment, places=place.values())] == members
            assert list(stream(session, collection, segment, places=[])) == []
        over = [n for n, d in every.items() if d.state != ERASING and d.expires is not None and d.expires <= clocked]
        assert expiring.expired_ids(session, collection) == over
        gone = [n for n, d in every.items() if d.state == LIVE and d.expires is not None and d.expires <= asked]
        where = {place[name]: second if every[name].second else first for name in gone}
        assert dict(expiring.expired_places(session, collection, after(asked))) == where
        ahead = [d.expires for d in every.values() if d.expires is not None and d.expires > asked]
        assert expiring.next_expiry(session, collection, after(asked)) == (after(min(ahead)) if ahead else None)
        assert expiring.set_expiry(session, collection, every, None) == len(seen)  # what is hidden stays as it is
        assert documents.select_ids(session, collection) == seen
        stored = [name for name, document in every.items() if document.state != ERASING]
        assert erasing.hide_many(session, collection, every, None) == len(stored)  # type: ignore[arg-type]  # of none
        assert documents.select_ids(session, collection, Filters(scope=Scope.STORED)) == []
        assert erasing.delete_many(session, collection, every) == len(every)
        registry.remove_segment(session, collection, second)


def test_the_model_knows_every_state_and_scope() -> None:
    assert {LIVE, ERASING, QUARANTINED} == {state.value for state in DocumentState}
    assert [scope.name for scope in Scope] == ["VISIBLE", "QUARANTINED", "STORED", "ANY"]


def test_a_document_expires_by_the_clock_in_an_open_transaction(house: Any, clock: Any) -> None:
    # By no commit: a session that was opened before sees it go at its time, to the microsecond.
    clock(T0)
    house.insert(house.new("d", expires_at=after(2)))
    with house.catalog.read() as session:
        for microsecond, expected in ((1, ["d"]), (2, []), (1, ["d"])):
            clock(after(microsecond))
            assert documents.select_ids(session, house.collection) == expected


def test_the_clock_is_the_machines() -> None:
    before, found, later = datetime.now(UTC), now(), datetime.now(UTC)
    assert before - timedelta(microseconds=1) <= found <= later + timedelta(microseconds=1)
    assert found.tzinfo is UTC
