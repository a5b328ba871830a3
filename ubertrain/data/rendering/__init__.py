"""Rooms with simple solids, drawn at random and ray traced, with the exact geometry of every pixel."""

from ubertrain.data.rendering.camera import Rendering as Rendering
from ubertrain.data.rendering.camera import render as render
from ubertrain.data.rendering.layout import CLASSES as CLASSES
from ubertrain.data.rendering.layout import OBJECT_CLASSES as OBJECT_CLASSES
from ubertrain.data.rendering.layout import random_scene as random_scene
from ubertrain.data.rendering.scene import Scene as Scene
