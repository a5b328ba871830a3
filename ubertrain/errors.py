"""The errors a user can cause: each says what was expected, what was given, where, and what to do.

All derive from `UbertrainError`, a `ValueError`, so that the command line can turn exactly the user's mistakes into one
clean message and leave our own (`AssertionError`) as tracebacks.
"""


class UbertrainError(ValueError):
    """A mistake in what ubertrain was given."""


class ConfigError(UbertrainError):
    """A configuration that cannot be used: unknown key, wrong type, unknown name. Names file, line and near match."""


class DataError(UbertrainError):
    """An image or annotation that cannot be used. Names the data set, the sample and the file."""


class TaskError(UbertrainError):
    """A task, head or loss that breaks its contract. Names the task."""


class ScheduleError(UbertrainError):
    """A schedule that does not parse, does not cover its trunk, or cannot be run on this graph. Names the stage."""


class BudgetError(UbertrainError):
    """A memory budget that no known schedule meets. Names the smallest feasible budget.

    Attributes:
        smallest: that budget in bytes, if it is known.
        schedule: what needs no more than that, if it is known.
    """

    def __init__(self, message: str, *, smallest: int | None = None, schedule: object = None) -> None:
        super().__init__(message)
        self.smallest = smallest
        self.schedule = schedule


class StateError(UbertrainError):
    """A saved state that is damaged or belongs to another configuration. Names the file."""


class NonFiniteError(UbertrainError):
    """A loss or gradient that is not finite. Names the task and the samples of the step."""
