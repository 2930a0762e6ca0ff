"""The game, its gradient and the methods: torch and the standard library, nothing else."""
