"""Somebody who is told what a step does while it does it."""

from contextlib import AbstractContextManager, nullcontext


class Watch:
    """Does not listen; subclasses do. What they are told must not change what the step computes or holds."""

    def during(self, what: str) -> AbstractContextManager[None]:
        """The context in which `what` happens: "forward res2.0", "recompute res2.0" or "branch depth"."""
        return nullcontext()
