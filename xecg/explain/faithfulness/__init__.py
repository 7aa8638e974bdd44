"""Whether maps show what a network used: perturbation, randomised weights, agreement over seeds."""
