"""qt_ros: a mobile manipulator that acts on an image and a sentence with a Q-Transformer, on ROS 2."""

from __future__ import annotations

from pkgutil import extend_path

# The generated modules qt_ros.msg, qt_ros.srv and qt_ros.action live in the colcon install space. With the source
# tree first on the path, extending this package over every qt_ros folder on sys.path makes both importable at once.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
