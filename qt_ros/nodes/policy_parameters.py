"""The parameters of policy_node. teleop_node has a table of its own, in which some of them are missing."""

from __future__ import annotations

from qt_ros.nodes.parameters import AUTOSTART, COMMAND_TIMEOUT, FROZEN_CAMERA, ROBOT, Parameter, ParameterTable

PARAMETERS = ParameterTable(
    ROBOT,
    AUTOSTART,
    Parameter("checkpoint", "", "Folder of the checkpoint that decides (model.safetensors, checkpoint.json)."),
    Parameter("device", "cpu", "Where the network runs: cpu, cuda or cuda:<number>."),
    Parameter(
        "threads", 1, "CPU threads of the network; 0: as torch chooses, slow beside other nodes.", low=0, high=256
    ),
    Parameter("max_duration", 12.0, "Longest episode when the goal does not say.", unit="s", low=0.1, high=3600.0),
    Parameter("outcome_wait", 1.0, "How long a result waits for episode_outcome.", unit="s", low=0.0, high=600.0),
    Parameter("preempt", False, "A new goal takes the place of the running one; else it is rejected."),
    Parameter("follow_instruction_topic", False, "Obey the contract's instruction topic too; empty text stops."),
    COMMAND_TIMEOUT,
    Parameter(
        "shadow",
        False,
        "Accept instructions where no command_node is heard: nothing moves, its actions can be watched.",
    ),
    FROZEN_CAMERA,
    Parameter("q_curves", False, "Publish the Q of every bin on ~/q_curves too, to look at; costs a message a step."),
)
