"""What a label is: one file per kind, each says how it is checked, warped, collated and drawn."""

from ubertrain.annotation.annotation import Annotation as Annotation
from ubertrain.annotation.boxes import Boxes as Boxes
from ubertrain.annotation.class_map import ClassMap as ClassMap
from ubertrain.annotation.depth import Depth as Depth
from ubertrain.annotation.edges import Edges as Edges
from ubertrain.annotation.normals import Normals as Normals
from ubertrain.annotation.parts import Parts as Parts
from ubertrain.annotation.picture import Tile as Tile
from ubertrain.annotation.picture import contact_sheet as contact_sheet
from ubertrain.annotation.proposed_boxes import ProposedBoxes as ProposedBoxes
from ubertrain.annotation.random_warp import RandomWarp as RandomWarp
from ubertrain.annotation.saliency import Saliency as Saliency
from ubertrain.annotation.semantic_edges import SemanticEdges as SemanticEdges
from ubertrain.annotation.stereo import Stereo as Stereo
from ubertrain.annotation.warp import Warp as Warp
