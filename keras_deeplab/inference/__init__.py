"""From images to answers: runtimes give scores, strategies compose them, answers are what people look at."""
