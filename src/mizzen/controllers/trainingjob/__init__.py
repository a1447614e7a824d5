"""TrainingJob: a training function run once for each generation, whose result becomes a ModelVersion."""
