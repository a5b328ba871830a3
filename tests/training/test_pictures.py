"""Which samples are drawn."""

from tests.data.stubs import Listed
from ubertrain.data.sample import Sample
from ubertrain.training.pictures import spread


class Counted(Listed):
    """Counts what is read."""

    reads = 0

    def read(self, index: int) -> Sample:
        self.reads += 1
        return super().read(index)


def test_rare_labels_are_found() -> None:
    """Every label is shown as often as asked for, wherever its samples stand."""
    samples = spread(Listed([["depth"]] * 20 + [["edges"]] * 2), 2)
    assert [set(sample.annotations) for sample in samples].count({"edges"}) == 2


def test_a_label_that_nobody_carries_is_not_searched_for_without_end() -> None:
    """A set of many images is not read through for the sake of a picture."""
    reader = Counted([["depth"]] * 250)
    assert len(spread(reader, 2)) == 2
    assert reader.reads <= 100
