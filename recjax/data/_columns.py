"""Which column of a table means what."""

import dataclasses
import re
from collections.abc import Sequence

from recjax.data._names import shorten, unknown

# In order of preference; compared without case and punctuation, so that `userId`,
# `user_id` and RecBole's typed `user_id:token` are one name.
_GUESSES = {
    "user": "userid user uid visitorid customerid reviewerid userkey",
    "item": "itemid item iid movieid productid parentasin asin bookid songid trackid "
    "artistid newsid articleid gameid businessid venueid poiid itemkey",
    "value": "rating value weight count userrating score stars overall",
    "time": "timestamp time ts unixreviewtime datetime date",
    "part": "split part xlabel",
    "relation": "behavior behaviour relation event behaviortype behaviourtype "
    "eventtype",
}


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of the columns of an interaction table.

    None: guess from well known names; an empty string: there is none, do not guess.
    """

    user: str | None = None
    """The user's id."""
    item: str | None = None
    """The item's id."""
    value: str | None = None
    """A rating, count or weight."""
    time: str | None = None
    """Seconds, or ISO dates."""
    part: str | None = None
    """The given split: train, valid or test (or 0, 1, 2)."""
    relation: str | None = None
    """The behaviour, such as view, cart, buy."""


GUESS = Columns()


def short(name: str) -> str:
    """A column's name without RecBole's type: ``rating:float`` is ``rating``."""
    return name.split(":")[0]


def guess(role: str, header: Sequence[str]) -> str | None:
    """The column of `header` that usually plays this role, or None."""
    plain = {re.sub(r"[\W_]", "", short(n)).casefold(): n for n in reversed(header)}
    for word in _GUESSES[role].split():
        if word in plain:
            return plain[word]
    return None


def say(role: str) -> str:
    """How to name the column of a role, in Python and on the command line."""
    return f"Columns({role}=...), --columns.{role}"


def resolve(columns: Columns, header: Sequence[str], file: str) -> dict[str, str]:
    """Role to column name, for the roles that the table has.

    Raises:
      ValueError: a named column is not there, no user or item column is found, or
        two columns have one name.
    """
    twice = sorted({name for name in header if list(header).count(name) > 1})
    if twice:
        raise ValueError(f"{file}: two columns are called {twice[0]!r}; rename one")
    by_short = {short(name): name for name in header}
    found: dict[str, str] = {}
    for field in dataclasses.fields(Columns):
        asked = getattr(columns, field.name)
        if asked:
            name = asked if asked in header else by_short.get(asked)
            if name is None:
                error = unknown(f"{field.name} column", asked, header)
                raise ValueError(f"{file}: {error}")
            found[field.name] = name
        elif asked is None and (name := guess(field.name, header)) is not None:
            found[field.name] = name
    for name in found.values():
        roles = [role for role in found if found[role] == name]
        if len(roles) > 1:
            raise ValueError(
                f"{file}: the column {name!r} cannot be both {' and '.join(roles)}; "
                f"{say(roles[0])} and {say(roles[1])} name two columns"
            )
    for role in ("user", "item"):
        if role not in found:
            raise ValueError(
                f"{file}: no {role} column among its {len(header)} column(s): "
                f"{shorten(', '.join(header))}. The first line must name the columns; "
                f"if it does, say which: {say(role)}"
            )
    return found
