"""What a control loop needs, without ROS: the policy runtime, the command shaper, the servo and their limits."""
