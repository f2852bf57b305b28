"""Finding the newest messages with given words on SQLite.

FTS5 reads backwards in the order of its rowids, and these follow the ids (`terms.lexemes`): it stops when the page is
full. Only a prefix has to be merged from all the words that it stands for first. Where these are common, the newest
messages have one of them, so those are looked at before.
"""

import orjson
import sqlalchemy as sa

from ..database.columns import Id
from ..database.statements import Statement
from ..search_index.lexemes import number_of
from .candidates import Candidates, IndexQuery
from .query import Phrase

NEAR = 1000  # messages that are looked at for a prefix: about 2 ms


def _ids(sql: str, *parameters: sa.BindParameter[str]) -> Statement:
    """A statement that is written out, with ids of messages as its rows."""
    shared = (
        sa.bindparam("owner", type_=Id()),
        sa.bindparam("before", type_=Id()),
        sa.bindparam("number", type_=sa.BigInteger()),
        sa.bindparam("count", type_=sa.Integer()),
    )
    return Statement(sa.text(sql).bindparams(*shared, *parameters).columns(message_id=Id()))


_BELOW = (
    "coalesce((SELECT number FROM message_terms WHERE user_id = :owner AND message_id = :before), :number)"
)
_BY_INDEX = _ids(
    f"""
    SELECT t.message_id FROM message_index AS i
    CROSS JOIN message_terms AS t ON t.user_id = :owner AND t.number = i.rowid
    WHERE i.message_index MATCH :query AND i.rowid < {_BELOW}
    ORDER BY i.rowid DESC LIMIT :count
    """,  # noqa: S608
    sa.bindparam("query", type_=sa.Text()),
)
_BY_LOOKING = _ids(
    f"""
    SELECT message_id FROM (
        SELECT message_id, terms || ' ' AS terms FROM message_terms
        WHERE user_id = :owner AND number < {_BELOW} ORDER BY number DESC LIMIT {NEAR}
    )
    WHERE NOT EXISTS (SELECT 1 FROM json_each(:required) WHERE instr(terms, value) = 0)
    AND NOT EXISTS (SELECT 1 FROM json_each(:excluded) WHERE instr(terms, value) > 0)
    LIMIT :count
    """,  # noqa: S608
    sa.bindparam("required", type_=sa.Text()),
    sa.bindparam("excluded", type_=sa.Text()),
)


def find_newest(wanted: IndexQuery) -> Candidates:
    """The newest messages that are wanted."""
    place = {
        "owner": wanted.user_id,
        "before": wanted.before,
        "number": number_of(wanted.before) if wanted.before else 2**63 - 1,
        "count": wanted.count,
    }
    if wanted.query.has_prefix:
        near = _BY_LOOKING.all(**place, **_texts(wanted))
        if len(near) == wanted.count:
            return Candidates([message_id for (message_id,) in near])
    query = wanted.query.as_fts5(wanted.user_id, also=wanted.also)
    return Candidates([message_id for (message_id,) in _BY_INDEX.all(**place, query=query)])


def _texts(wanted: IndexQuery) -> dict[str, str]:
    """What a message's terms must contain, and must not."""
    required = [*(f" {lexeme} " for lexeme in wanted.also), *map(_text, wanted.query.required)]
    excluded = list(map(_text, wanted.query.excluded))
    return {"required": orjson.dumps(required).decode(), "excluded": orjson.dumps(excluded).decode()}


def _text(phrase: Phrase) -> str:
    """A phrase as it stands in the terms, between spaces."""
    return f" {' '.join(phrase.terms)}{'' if phrase.is_prefix else ' '}"
