"""Evaluates a model again and again."""

from collections import Counter
from collections.abc import Mapping

from ubertrain.data.reader import Reader
from ubertrain.training.build import Model
from ubertrain.training.evaluation import Evaluation, answers_of, answers_of_constants, evaluate, fit_constants
from ubertrain.training.records import Scores


class Judge:
    """Scores a model as it is now on fixed sets.

    Attributes:
        last: the last evaluation of the model.
        skipped: message -> how often a sample was left out in the evaluation that met it most often.
    """

    def __init__(self, model: Model, sets: Mapping[str, Reader]) -> None:
        self.model, self.sets = model, sets
        self.last = Evaluation()
        self.skipped: Counter[str] = Counter()

    def scores(self) -> Scores:
        """Task -> scores over all sets that carry its label."""
        self.last = evaluate(answers_of(self.model.graph, self.model.tasks), self.model.tasks, self.model.config, self.sets)
        self.skipped |= self.last.skipped
        return self.last.scores

    def constant_scores(self, train_sets: Mapping[str, Reader]) -> Scores:
        """Task -> scores of the best constant answer according to the training sets."""
        constants = fit_constants(self.model.tasks, self.model.config, train_sets)
        known = {name: task for name, task in self.model.tasks.items() if name in constants}
        labels = {task.label for task in known.values()}
        sets = {name: reader for name, reader in self.sets.items() if labels & set(reader.kinds)}
        return evaluate(answers_of_constants(constants), known, self.model.config, sets).scores
