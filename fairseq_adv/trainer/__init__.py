"""What fairseq's trainer lacks: faults, checkpoints, signals, replays."""
