"""The baseline: a DSPy program behind FastAPI and `dspy.asyncify`, as DSPy's tutorial deploys one.

It runs in its own environment (`.venv-bench`), with the whole of DSPy. `THREADS` sets
`async_max_workers`; unset, DSPy's default stands, as in the tutorial.
"""

from __future__ import annotations

import os

import dspy
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Question(BaseModel):
    """The body of a request."""

    text: str


lm = dspy.LM("openai/gpt-4o-mini", api_base=os.environ["LM_URL"], api_key="practice")
threads = os.environ.get("THREADS")
dspy.configure(lm=lm, **({"async_max_workers": int(threads)} if threads else {}))
program = dspy.asyncify(dspy.ChainOfThought("question -> answer"))
app = FastAPI()


@app.post("/predict")
async def predict(question: Question) -> dict[str, object]:
    """Answer one question."""
    try:
        found = await program(question=question.text)
    except Exception as error:
        raise HTTPException(status_code=500, detail=str(error)) from error
    return {"status": "success", "data": found.toDict()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
