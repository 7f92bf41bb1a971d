"""Logs the tutorial's program as an MLflow model into the present folder; prints where it lies.

It runs in MLflow's own environment.
"""

from __future__ import annotations

import os

import dspy
import mlflow

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_base=os.environ["LM_URL"], api_key="practice"))
info = mlflow.dspy.log_model(
    dspy.ChainOfThought("question -> answer"),
    name="program",
    input_example={"question": "Are you there?"},  # its signature follows from this
    use_dspy_model_save=True,
    pip_requirements=[],  # it is served from the environment that it was logged in
)
print(info.artifact_path)
