"""What LeRobot discovers: importing this module registers everything handsight offers."""
