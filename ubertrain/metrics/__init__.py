"""Scores over a data set, gathered as sums."""

from ubertrain.metrics.angular_error import AngularError as AngularError
from ubertrain.metrics.boundary_f import BoundaryF as BoundaryF
from ubertrain.metrics.box_ap import BoxAP as BoxAP
from ubertrain.metrics.constants import Constant as Constant
from ubertrain.metrics.depth_errors import DepthErrors as DepthErrors
from ubertrain.metrics.found_boxes import BoxMetric as BoxMetric
from ubertrain.metrics.mean_iou import MeanIoU as MeanIoU
from ubertrain.metrics.metric import Metric as Metric
from ubertrain.metrics.parts_iou import PartsIoU as PartsIoU
from ubertrain.metrics.saliency import SaliencyF as SaliencyF
from ubertrain.metrics.semantic_boundary_f import SemanticBoundaryF as SemanticBoundaryF
from ubertrain.metrics.stereo_errors import DisparityErrors as DisparityErrors
from ubertrain.metrics.stereo_errors import StereoErrors as StereoErrors
from ubertrain.metrics.sums import SumMetric as SumMetric
from ubertrain.metrics.sums import ratio as ratio
from ubertrain.metrics.voc_ap import Voc07AP as Voc07AP
from ubertrain.metrics.voc_ap import VocAP as VocAP
