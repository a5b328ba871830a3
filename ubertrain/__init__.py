"""Train one vision trunk for many tasks, within a memory budget, from data sets that each label only some of them.

The names below are the public surface: `import ubertrain as ut`, then `ut.Graph`, `ut.Engine`, `ut.Task` and so on.
"""

# Names are imported at their first use: importing torch takes seconds, and `import ubertrain.planning` and `ubertrain --help`,
# which run this file first, do without it. The table says where each name lives; type checkers read the imports above it, and
# a test keeps the two alike.

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from ubertrain.errors import BudgetError as BudgetError
from ubertrain.errors import ConfigError as ConfigError
from ubertrain.errors import DataError as DataError
from ubertrain.errors import NonFiniteError as NonFiniteError
from ubertrain.errors import ScheduleError as ScheduleError
from ubertrain.errors import StateError as StateError
from ubertrain.errors import TaskError as TaskError
from ubertrain.errors import UbertrainError as UbertrainError

if TYPE_CHECKING:
    from ubertrain import annotation as annotation
    from ubertrain import testing as testing
    from ubertrain.engine.branch import Branch as Branch
    from ubertrain.engine.engine import Engine as Engine
    from ubertrain.engine.graph import Graph as Graph
    from ubertrain.engine.labels import Labels as Labels
    from ubertrain.engine.level import Level as Level
    from ubertrain.engine.meter import LiveBytes as LiveBytes
    from ubertrain.measuring.estimate import estimate as estimate
    from ubertrain.measuring.fit import fit as fit
    from ubertrain.measuring.profile import profile as profile
    from ubertrain.measuring.rehearse import rehearse as rehearse
    from ubertrain.measuring.timeline import rehearse_timeline as rehearse_timeline
    from ubertrain.planning.chain import Chain as Chain
    from ubertrain.planning.plan import plan as plan
    from ubertrain.planning.schedule import Schedule as Schedule
    from ubertrain.planning.simulate import simulate as simulate
    from ubertrain.registry import register_task as register_task
    from ubertrain.splitting.split import split as split
    from ubertrain.task import Task as Task
else:
    _HOMES = {
        "annotation": "ubertrain.annotation",
        "Branch": "ubertrain.engine.branch:Branch",
        "Chain": "ubertrain.planning.chain:Chain",
        "Engine": "ubertrain.engine.engine:Engine",
        "estimate": "ubertrain.measuring.estimate:estimate",
        "fit": "ubertrain.measuring.fit:fit",
        "Graph": "ubertrain.engine.graph:Graph",
        "Labels": "ubertrain.engine.labels:Labels",
        "Level": "ubertrain.engine.level:Level",
        "LiveBytes": "ubertrain.engine.meter:LiveBytes",
        "plan": "ubertrain.planning.plan:plan",
        "profile": "ubertrain.measuring.profile:profile",
        "rehearse": "ubertrain.measuring.rehearse:rehearse",
        "Schedule": "ubertrain.planning.schedule:Schedule",
        "rehearse_timeline": "ubertrain.measuring.timeline:rehearse_timeline",
        "split": "ubertrain.splitting.split:split",
        "register_task": "ubertrain.registry:register_task",
        "simulate": "ubertrain.planning.simulate:simulate",
        "Task": "ubertrain.task:Task",
        "testing": "ubertrain.testing",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = resolve_name(_HOMES[name])
        return value

    def __dir__():
        return sorted({*globals(), *_HOMES})
