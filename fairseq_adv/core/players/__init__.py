"""The players: how the follower starts, steps and is held; what the leader knows of that."""
