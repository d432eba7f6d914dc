"""LeRobot's SmolVLA, pi0 and pi0.5 with their attention, which they write by hand, computed by `kernels.attention.attend`."""
