"""What the simulated robot measures, as standard messages (REP-103 units and frames)."""

from __future__ import annotations

import array
import math
from collections.abc import Mapping

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion
from nav_msgs.msg import Odometry as OdometryMsg
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo as CameraInfoMsg
from sensor_msgs.msg import CompressedImage, Image, JointState

from qt_ros.sim.camera import CameraInfo
from qt_ros.sim.world import Odometry

JPEG_QUALITY = 90


def time_message(ns: int) -> Time:
    """Nanoseconds -> builtin_interfaces/Time."""
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


class ImageMessage:
    """One rgb8 sensor_msgs/Image that is filled again and again: its pixels are copied once, into the message's array.

    rclpy copies the message while it publishes, so it may be refilled right after.
    """

    def __init__(self, height: int, width: int, frame: str) -> None:
        self.message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * 3)
        self.message.header.frame_id = frame
        self.message.data = array.array("B", bytes(height * width * 3))
        # The message may have made its own copy of what it was given.
        self._pixels = np.frombuffer(self.message.data, dtype=np.uint8).reshape(height, width, 3)

    def fill(self, image: NDArray[np.uint8], stamp: Time) -> Image:
        """Put ``image`` (H, W, 3) uint8 RGB taken at ``stamp`` into the message."""
        self._pixels[:] = image
        self.message.header.stamp = stamp
        return self.message


def compressed_message(image: NDArray[np.uint8], stamp: Time, frame: str) -> CompressedImage:
    """(H, W, 3) uint8 RGB -> JPEG with image_transport's format string."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError("OpenCV could not encode a camera image as JPEG")
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp, message.header.frame_id = stamp, frame
    message.data = array.array("B", data.tobytes())
    return message


def camera_info_message(info: CameraInfo) -> CameraInfoMsg:
    """Intrinsics of a camera without distortion."""
    message = CameraInfoMsg(height=info.height, width=info.width, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.frame_id = info.frame
    message.k, message.p = list(info.k), list(info.p)
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    return message


def joint_state_message(positions: Mapping[str, float], velocities: Mapping[str, float], stamp: Time) -> JointState:
    """Positions (rad, m) and velocities by joint name."""
    message = JointState(name=list(positions), position=list(positions.values()))
    message.velocity = [velocities[name] for name in positions]
    message.header.stamp = stamp
    return message


def odometry_message(odometry: Odometry, stamp: Time) -> OdometryMsg:
    """Base pose in ``odom``, speed in ``base_link``."""
    message = OdometryMsg(child_frame_id="base_link")
    message.header.stamp, message.header.frame_id = stamp, "odom"
    message.pose.pose.position.x, message.pose.pose.position.y = odometry.x, odometry.y
    message.pose.pose.orientation = yaw_quaternion(odometry.yaw)
    message.twist.twist.linear.x, message.twist.twist.angular.z = odometry.forward, odometry.turn
    return message


def yaw_quaternion(yaw: float) -> Quaternion:
    """Turn of ``yaw`` rad about z."""
    return Quaternion(z=math.sin(yaw / 2), w=math.cos(yaw / 2))
