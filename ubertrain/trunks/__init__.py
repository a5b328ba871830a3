"""The shared layers that tasks branch from."""

from ubertrain.trunks.trunk import Normalise as Normalise
from ubertrain.trunks.trunk import Stage as Stage
from ubertrain.trunks.trunk import StageSequence as StageSequence
from ubertrain.trunks.trunk import Tap as Tap
from ubertrain.trunks.trunk import Trunk as Trunk
