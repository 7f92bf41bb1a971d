"""What we know of the cluster: the newest version of each object, found by key and by app.

Objects are kept as JSON bytes: a dictionary of dictionaries takes nine times its JSON, and an
object is read only when its app is looked at. A version older than the known one is ignored, so
the answer to an apply is never overwritten by an event that was sent before it. Deleted objects are
remembered for a while: a list or an answer that was made before the deletion may come after it, and
would otherwise bring back an object that no event will ever take away again.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import orjson

from dspy_operator.core import app as app_spec
from dspy_operator.core import names
from dspy_operator.core.manifest import Key, Ref, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspy_operator.core.manifest import Manifest
    from dspy_operator.edge.kube import Selection

APP_KIND = "DSPyApp"
_REMEMBERED_DELETIONS: Final = 4096
"""More than go while one list is under way."""

_POD: Final = "Pod"
_REVISION: Final = "deployment.kubernetes.io/revision"

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    version: int
    app: Key | None
    source: Key | None
    raw: bytes

    @property
    def content(self) -> bytes:
        """Return what the object says, its version left out."""
        return self.raw.replace(b'"resourceVersion":"%d"' % self.version, b"", 1)


class Store:
    """The known objects of all kinds; tells which app a change concerns."""

    def __init__(
        self, changed: Callable[[Key], None], moved: Callable[[Key], None] | None = None
    ) -> None:
        """Start empty.

        Args:
            changed: Called with an app where somebody has changed, made or deleted something.
            moved: Called instead where only a status has moved on.
        """
        self._changed = changed
        self._moved = moved or changed
        self._kinds: dict[str, dict[Key, _Entry]] = defaultdict(dict)
        self._by_app: dict[Key, set[Ref]] = defaultdict(set)
        self._by_source: dict[Key, set[Key]] = defaultdict(set)
        self._deleted: OrderedDict[str, int] = OrderedDict()

    def put(self, kind: str, live: Manifest) -> None:
        """Take an object, unless this version or a newer one is known.

        A new version that says nothing new to us (projections leave figures out) is kept in
        silence. A child whose label was changed concerns two apps: the one that has lost it, and
        the other.
        """
        key = key_of(live)
        old = self._kinds[kind].get(key)
        if not self.learn(kind, live):
            return
        new = self._kinds[kind][key]
        if old is not None and old.app != new.app:
            self._tell(old)
        if old is None or old.uid != new.uid:
            self._tell(new)
        elif old.content != new.content:
            self._tell_of_change(old, new)

    def learn(self, kind: str, live: Manifest) -> bool:
        """Take an object without telling anybody; return whether it was news.

        Reconciliation calls this with the answers to its own writes.
        """
        key, old = key_of(live), self._kinds[kind].get(key_of(live))
        new = _entry(kind, live)
        if old is not None and old.uid == new.uid and old.version >= new.version:
            return False
        if self._deleted.get(new.uid, -1) >= new.version:
            return False
        if old is not None:
            self._remove(kind, key)
        self._add(kind, key, new)
        return True

    def drop(self, kind: str, live: Manifest) -> None:
        """Forget a deleted object; one that took its name since stays."""
        key = key_of(live)
        self._remember_deletion(live["metadata"])
        known = self._kinds[kind].get(key)
        if known is not None and known.uid == live["metadata"]["uid"]:
            self._remove(kind, key)
            self._tell(known)

    def forget(self, kind: str, key: Key) -> None:
        """Forget an object that seems to be gone; should it be there, the next list brings it."""
        known = self._kinds[kind].get(key)
        if known is not None:
            self._remove(kind, key)
            self._tell(known)

    def retain(self, selection: Selection, seen: frozenset[Key], version: str) -> None:
        """Forget what a complete list did not show and what is not younger than the list."""
        gone = [
            (key, entry)
            for key, entry in self._kinds[selection.kind].items()
            if key not in seen
            and entry.version <= int(version)
            and selection.namespace in {"", key.namespace}
        ]
        for key, entry in gone:
            self._remove(selection.kind, key)
            self._tell(entry)

    def forget_kind(self, kind: str) -> None:
        """Forget all objects of a kind that the cluster does not serve any more."""
        for key, entry in list(self._kinds[kind].items()):
            self._remove(kind, key)
            self._tell(entry)

    def get(self, kind: str, key: Key) -> Manifest | None:
        """Return an object as it was last seen."""
        entry = self._kinds[kind].get(key)
        return None if entry is None else _load(entry)

    def apps(self) -> list[Key]:
        """Return the keys of all apps."""
        return list(self._kinds[APP_KIND])

    def owned(self, app: Key) -> dict[Ref, Manifest]:
        """Return the objects that carry an app's label, pods left out."""
        return dict(self._of(app, lambda kind: kind != _POD))

    def pods(self, app: Key) -> list[Manifest]:
        """Return the pods of an app."""
        return [live for _, live in self._of(app, lambda kind: kind == _POD)]

    def users_of(self, source: Key) -> frozenset[Key]:
        """Return the apps whose Python files are in a ConfigMap."""
        return frozenset(self._by_source.get(source, ()))

    def count(self) -> int:
        """Return the number of known objects."""
        return sum(len(entries) for entries in self._kinds.values())

    def _of(self, app: Key, wanted: Callable[[str], bool]) -> Iterator[tuple[Ref, Manifest]]:
        """Yield an app's objects; to read one is dear, so the others are left unread."""
        refs = self._by_app.get(app, ())
        for ref in sorted(ref for ref in refs if wanted(ref.kind)):
            yield ref, _load(self._kinds[ref.kind][Key(ref.namespace, ref.name)])

    def _add(self, kind: str, key: Key, entry: _Entry) -> None:
        self._kinds[kind][key] = entry
        if kind != APP_KIND and entry.app is not None:
            self._by_app[entry.app].add(Ref(kind, key.namespace, key.name))
        if entry.source is not None:
            self._by_source[entry.source].add(key)

    def _remove(self, kind: str, key: Key) -> None:
        entry = self._kinds[kind].pop(key)
        if entry.app is not None:
            _discard(self._by_app, entry.app, Ref(kind, key.namespace, key.name))
        if entry.source is not None:
            _discard(self._by_source, entry.source, key)

    def _remember_deletion(self, metadata: Manifest) -> None:
        """Keep the version too: an object that only lost its label may get it back."""
        self._deleted[metadata["uid"]] = int(metadata["resourceVersion"])
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)

    def _tell(self, entry: _Entry) -> None:
        if entry.app is not None:
            self._changed(entry.app)

    def _tell_of_change(self, old: _Entry, new: _Entry) -> None:
        if new.app is None:
            return
        is_status = _wish(old) == _wish(new)
        (self._moved if is_status else self._changed)(new.app)


def _wish(entry: _Entry) -> Manifest:
    """Return what is said by others than the controllers of Kubernetes."""
    live = _load(entry)
    metadata = {n: v for n, v in live["metadata"].items() if n != "resourceVersion"}
    notes = {n: v for n, v in metadata.get("annotations", {}).items() if n != _REVISION}
    return {**live, "metadata": {**metadata, "annotations": notes}, "status": None}


def _discard(index: dict[_K, set[_V]], key: _K, value: _V) -> None:
    index[key].discard(value)
    if not index[key]:
        del index[key]


def _load(entry: _Entry) -> Manifest:
    manifest: Manifest = orjson.loads(entry.raw)
    return manifest


def _entry(kind: str, live: Manifest) -> _Entry:
    metadata = live["metadata"]
    return _Entry(
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        app=_app_of(kind, live),
        source=_source_of(kind, live),
        raw=_dump(live),
    )


def _dump(live: Manifest) -> bytes:
    """Return an object as JSON, with a text in place of demos that nest too deeply.

    The reader refuses the text. Demos are the one place where a user may nest as deeply as the API
    server allows, which is deeper than the encoder does. One such app must not stop the operator.
    """
    try:
        return orjson.dumps(live)
    except orjson.JSONEncodeError:
        program = {**live["spec"]["program"], "demos": "values nested too deeply"}
        return orjson.dumps({**live, "spec": {**live["spec"], "program": program}})


def _app_of(kind: str, live: Manifest) -> Key | None:
    key = key_of(live)
    if kind == APP_KIND:
        return key
    name = live["metadata"].get("labels", {}).get(names.APP_LABEL)
    return None if name is None else Key(key.namespace, name)


def _source_of(kind: str, live: Manifest) -> Key | None:
    if kind != APP_KIND:
        return None
    name = app_spec.source_name(live)
    return None if name is None else Key(live["metadata"]["namespace"], name)
