"""Images and their labels: readers of data sets, mixing, warping and batching."""

from ubertrain.data.batch import Batch as Batch
from ubertrain.data.files import FileReader as FileReader
from ubertrain.data.inventory import Inventory as Inventory
from ubertrain.data.inventory import count as count
from ubertrain.data.loading import TrainLoader as TrainLoader
from ubertrain.data.loading import evaluation_batches as evaluation_batches
from ubertrain.data.mixing import Draw as Draw
from ubertrain.data.mixing import Mixer as Mixer
from ubertrain.data.reader import Reader as Reader
from ubertrain.data.readers import READERS as READERS
from ubertrain.data.sample import Sample as Sample
