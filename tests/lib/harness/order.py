"""Which worker of pytest-xdist runs which test: each stays in a file, whose servers it then makes once, until nothing is left there."""
from collections import Counter

from xdist.scheduler.load import LoadScheduling


def long_ones_first(items):
    """Sorts the files with a test marked `long` to the front, and these tests to the front of their file: a long test that
    begins last keeps all but one worker waiting."""
    long_files = {item.path for item in items if item.get_closest_marker("long")}
    files = {item.path: number for number, item in reversed(list(enumerate(items)))}
    items.sort(key=lambda item: (item.path not in long_files, files[item.path], not item.get_closest_marker("long")))


class FileByFile(LoadScheduling):
    """Hands out one test at a time: of the worker's own file, else of one that nobody has begun, else of the one with the most left."""

    def __init__(self, config, log=None):
        super().__init__(config, log)
        self._files = {}  # worker: the file of the last test that it was given
        self._begun = set()

    def schedule(self):
        if self.collection is not None or not self._check_nodes_have_same_collection():
            return super().schedule()
        self.collection = next(iter(self.node2collection.values()))
        self.pending[:] = range(len(self.collection))
        for node in self.nodes:
            self.check_schedule(node)

    def check_schedule(self, node, duration=0):
        if node.shutting_down:
            return
        # A worker runs a test when it knows the next one.
        while self.pending and len(self.node2pending[node]) < 2:
            index = self._choose(node)
            self.pending.remove(index)
            self.pending.insert(0, index)
            self._send_tests(node, 1)
        if not self.pending:
            node.shutdown()

    def _choose(self, node):
        left = Counter(self._file(index) for index in self.pending)
        file = self._files.get(node)
        if file not in left:
            file = next((name for name in left if name not in self._begun), None) or left.most_common(1)[0][0]
        self._files[node] = file
        self._begun.add(file)
        return next(index for index in self.pending if self._file(index) == file)

    def _file(self, index):
        return self.collection[index].partition("::")[0]
