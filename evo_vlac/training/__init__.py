"""Fine-tuning a critic: labels, pairs of questions and answers, the training set, ms-swift's run."""
