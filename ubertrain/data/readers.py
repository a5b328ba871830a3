"""Data sets by name: what YAML calls the `type` of a data set."""

from ubertrain.data.reader import Reader
from ubertrain.registry import Registry

READERS: Registry[Reader] = Registry(
    kind="data set",
    builtin={
        "scenes": "ubertrain.data.scenes:Scenes",
        "bsds500": "ubertrain.data.bsds:BSDS500",
        "coco": "ubertrain.data.coco:Coco",
        "voc": "ubertrain.data.voc:Voc",
        "sbd": "ubertrain.data.sbd:Sbd",
        "seven_scenes": "ubertrain.data.seven_scenes:SevenScenes",
        "ecssd": "ubertrain.data.ecssd:ECSSD",
        "clothing_co_parsing": "ubertrain.data.clothing:ClothingCoParsing",
        "folder": "ubertrain.data.folder:Folder",
        "with_proposals": "ubertrain.data.with_proposals:WithProposals",
    },
    group="ubertrain.readers",
    base="ubertrain.data.reader:Reader",
)
"""Every data set by name. A new reader gets its line here."""
