"""Our engine at a budget."""

from dataclasses import dataclass
from typing import Any

import ubertrain as ut
from ubertrain.measuring.estimate import estimate
from ubertrain.measuring.profile import profile
from ubertrain.planning.chain import Chain


@dataclass(frozen=True)
class Fitter:
    """Fits schedules to a step.

    Attributes:
        graph, images, targets: the step.
        chain: its measures; what they count is what a schedule has the least of.
    """

    graph: ut.Graph
    images: Any
    targets: dict[str, Any]
    chain: Chain

    @classmethod
    def of(cls, graph: ut.Graph, images: Any, targets: dict[str, Any], cost: str) -> "Fitter":
        """Measured by "flops", by "auto" (seconds by a model of this machine), or by "profile" (seconds of real runs)."""
        chain = profile(graph, images, targets) if cost == "profile" else estimate(graph, images, targets, cost=cost)
        return cls(graph, images, targets, chain)

    def within(self, budget: int) -> ut.Schedule | None:
        """The cheapest schedule that needs at most `budget` bytes of activations; None if there is none."""
        try:
            return ut.fit(self.graph, self.images, self.targets, budget=budget, chain=self.chain)
        except ut.BudgetError:
            return None

    def least(self) -> ut.Schedule:
        """The schedule that needs least, as the refusal of a hopeless budget names it."""
        try:
            return ut.fit(self.graph, self.images, self.targets, budget=0, chain=self.chain)
        except ut.BudgetError as error:
            assert isinstance(error.schedule, ut.Schedule), error
            return error.schedule
