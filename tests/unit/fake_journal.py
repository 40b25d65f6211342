"""A journal in memory that is read as python3-systemd's Reader reads the real one."""

import contextlib
import os
import time


class FakeJournal:
    """What journald holds; `write` is for everybody, with the fields that journald adds automatically."""

    def __init__(self):
        self.entries = []
        self.readers = []
        self.readable = True

    def write(self, message, at=None, **fields):
        """Add an entry; notify all readers."""
        moment = int((at or time.time()) * 1e6)
        fields = {"PRIORITY": 6, **fields, "MESSAGE": message, "__REALTIME_TIMESTAMP": moment}
        self.entries.append({**fields, "__CURSOR": f"c{len(self.entries)}"})
        for reader in self.readers:
            os.eventfd_write(reader.descriptor, 1)

    def open(self, converters):
        """Stand in for journal.Reader."""
        assert set(converters) == {"__REALTIME_TIMESTAMP"}
        return FakeReader(self)


class FakeReader:
    def __init__(self, journal):
        self._journal = journal
        self._groups = [{}]
        self._at = 0
        """Entries before this index come before, the others after."""
        self._tail = False
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        journal.readers.append(self)

    def add_match(self, **fields):
        # Of values of one field an entry has any, of fields it has all.
        for field, value in fields.items():
            self._groups[-1].setdefault(field, set()).add(value)

    def add_disjunction(self):
        self._groups.append({})

    def _fits(self, entry):
        return any(
            all(str(entry.get(field)) in values for field, values in group.items()) for group in self._groups
        )

    def seek_tail(self):
        self._at, self._tail = len(self._journal.entries), True

    def seek_realtime(self, moment):
        entries = self._journal.entries
        self._at = next(
            (n for n, entry in enumerate(entries) if entry["__REALTIME_TIMESTAMP"] >= moment), len(entries)
        )
        self._tail = False

    def seek_cursor(self, cursor):
        self._at, self._tail = int(cursor[1:]), False

    def get_previous(self):
        while self._at and self._journal.readable:
            self._at -= 1
            if self._fits(self._journal.entries[self._at]):
                self._tail = False
                return dict(self._journal.entries[self._at])
        return {}

    def get_next(self):
        # As the real one: from the tail there is no next, whatever comes.
        while not self._tail and self._at < len(self._journal.entries):
            self._at += 1
            if self._fits(self._journal.entries[self._at - 1]):
                return dict(self._journal.entries[self._at - 1])
        return {}

    def process(self):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def fileno(self):
        return self.descriptor

    def close(self):
        self._journal.readers.remove(self)
        os.close(self.descriptor)
