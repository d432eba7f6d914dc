"""Touch, sound and language for policies that others wrote: LeRobot's ACT, Diffusion and SmolVLA."""
